package plot

import (
	"bytes"
	"fmt"
	"html"
	"image/color"
)

// SVG returns a picture of that size for browsers and vector programs.
func SVG(width, height float64, picture func(Canvas)) []byte {
	var c svg
	fmt.Fprintf(&c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif">`+"\n", width, height)
	fmt.Fprintf(&c, `<rect width="%g" height="%g" fill="%s"/>`+"\n", width, height, Hex(White))
	picture(&c)
	c.WriteString("</svg>\n")
	return c.Bytes()
}

type svg struct{ bytes.Buffer }

func (s *svg) Line(c color.RGBA, width float64, through ...Point) {
	if len(through) == 0 {
		return
	}
	fmt.Fprintf(s, `<polyline fill="none" stroke="%s" stroke-width="%g" points="`, Hex(c), width)
	for _, p := range through {
		fmt.Fprintf(s, "%.1f,%.1f ", p.X, p.Y)
	}
	s.WriteString("\"/>\n")
}

func (s *svg) Dot(c color.RGBA, radius float64, at Point) {
	fmt.Fprintf(s, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", at.X, at.Y, radius, Hex(c))
}

func (s *svg) Text(size, anchor float64, at Point, text string) {
	where := map[float64]string{0: "start", .5: "middle", 1: "end"}[anchor]
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%g" text-anchor="%s" fill="%s">%s</text>`+"\n", at.X, at.Y, size, where, Hex(Ink), html.EscapeString(text))
}
