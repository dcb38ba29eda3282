package simulate

import (
	"bytes"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// SVG draws the chart for browsers and vector programs.
func (p Chart) SVG() ([]byte, error) {
	var c svg
	fmt.Fprintf(&c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&c, `<rect width="%g" height="%g" fill="%s"/>`+"\n", chartWidth, chartHeight, hex(white))
	p.draw(&c)
	c.WriteString("</svg>\n")
	return c.Bytes(), nil
}

type svg struct{ bytes.Buffer }

func hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

func (s *svg) line(c color.RGBA, width float64, through ...xy) {
	if len(through) == 0 {
		return
	}
	fmt.Fprintf(s, `<polyline fill="none" stroke="%s" stroke-width="%g" points="`, hex(c), width)
	for _, p := range through {
		fmt.Fprintf(s, "%.1f,%.1f ", p.x, p.y)
	}
	s.WriteString("\"/>\n")
}

func (s *svg) dot(c color.RGBA, radius float64, at xy) {
	fmt.Fprintf(s, `<circle cx="%.1f" cy="%.1f" r="%g" fill="%s"/>`+"\n", at.x, at.y, radius, hex(c))
}

func (s *svg) text(size, anchor float64, at xy, text string) {
	where := map[float64]string{0: "start", .5: "middle", 1: "end"}[anchor]
	fmt.Fprintf(s, `<text x="%.1f" y="%.1f" font-size="%g" text-anchor="%s" fill="%s">%s</text>`+"\n", at.x, at.y, size, where, hex(ink), html.EscapeString(text))
}

// pngScale is how many pixels a unit has: enough for print and dense screens.
const pngScale = 2

// PNG draws the same chart in pixels, for documents that take no SVG.
func (p Chart) PNG() ([]byte, error) {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("read the chart's font: %w", err)
	}
	c := raster{image.NewRGBA(image.Rect(0, 0, chartWidth*pngScale, chartHeight*pngScale)), map[float64]font.Face{}}
	for _, size := range []float64{fontSize, titleSize} {
		if c.faces[size], err = opentype.NewFace(parsed, &opentype.FaceOptions{Size: size * pngScale, DPI: 72}); err != nil {
			return nil, fmt.Errorf("scale the chart's font: %w", err)
		}
	}
	draw.Draw(c.img, c.img.Rect, image.White, image.Point{}, draw.Src)
	p.draw(c)
	var b bytes.Buffer
	if err := png.Encode(&b, c.img); err != nil {
		return nil, fmt.Errorf("encode the chart: %w", err)
	}
	return b.Bytes(), nil
}

type raster struct {
	img   *image.RGBA
	faces map[float64]font.Face // by size
}

// fill paints a polygon. The rasteriser goes through all of its area, so that is
// made no larger than needed.
func (r raster) fill(c color.RGBA, shape ...xy) {
	var area image.Rectangle
	for _, p := range shape {
		x, y := int(p.x*pngScale), int(p.y*pngScale)
		area = area.Union(image.Rect(x, y, x+2, y+2))
	}
	v := vector.NewRasterizer(area.Dx(), area.Dy())
	for i, p := range shape {
		x, y := float32(p.x*pngScale-float64(area.Min.X)), float32(p.y*pngScale-float64(area.Min.Y))
		if i == 0 {
			v.MoveTo(x, y)
		} else {
			v.LineTo(x, y)
		}
	}
	v.ClosePath()
	v.Draw(r.img, area, image.NewUniform(c), image.Point{})
}

func (r raster) dot(c color.RGBA, radius float64, at xy) {
	const corners = 32
	var edge []xy
	for i := range corners {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		edge = append(edge, xy{at.x + radius*cos, at.y + radius*sin})
	}
	r.fill(c, edge...)
}

func (r raster) line(c color.RGBA, width float64, through ...xy) {
	for i, b := range through {
		if i == 0 {
			continue
		}
		a := through[i-1]
		scale := width / 2 / math.Hypot(b.x-a.x, b.y-a.y)
		x, y := (b.y-a.y)*scale, (a.x-b.x)*scale // across
		r.fill(c, xy{a.x + x, a.y + y}, xy{b.x + x, b.y + y}, xy{b.x - x, b.y - y}, xy{a.x - x, a.y - y})
		if i < len(through)-1 {
			// A round joint, not quite as wide: half covered pixels would count twice.
			r.dot(c, width/2-.3, b)
		}
	}
}

func (r raster) text(size, anchor float64, at xy, s string) {
	d := font.Drawer{Dst: r.img, Src: image.NewUniform(ink), Face: r.faces[size]}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(at.x*pngScale*64 - anchor*float64(d.MeasureString(s))), Y: fixed.Int26_6(at.y * pngScale * 64)}
	d.DrawString(s)
}
