package simulate

import (
	"bytes"
	"fmt"
	"html"
	"io"
	"math"
	"strconv"
)

// Point is a probability at a number of confirmations.
type Point struct {
	Z int
	P float64
}

// Curve is one attacker: calculated values as a line, simulated ones as dots.
type Curve struct {
	Label      string
	Line, Dots []Point
}

// The chart's measures, in SVG units.
const (
	chartWidth, chartHeight = 860.0, 520.0
	plotLeft, plotRight     = 80.0, 720.0
	plotTop, plotBottom     = 60.0, 460.0
	legendStep              = 20.0
	mostDecades             = 7
)

// chartColours are told apart by people who see colours differently as well
// (M. Okabe, K. Ito, 2008); curves beyond them are dashed.
var chartColours = [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000"}

// chart maps values to places.
type chart struct {
	bytes.Buffer
	last    int // confirmations at the right edge
	decades int // powers of ten from 100 % down to the bottom
}

// WriteChart draws an SVG of curves over confirmations, with a logarithmic scale
// of probability. Lines end on its lower edge where the values are too small.
func WriteChart(w io.Writer, title string, curves []Curve) error {
	c := chart{last: 2, decades: 1}
	for _, curve := range curves {
		for _, points := range [][]Point{curve.Line, curve.Dots} {
			for _, p := range points {
				c.last = max(c.last, p.Z)
				if p.P > 0 {
					c.decades = min(max(c.decades, int(math.Ceil(-math.Log10(p.P)))), mostDecades)
				}
			}
		}
	}
	fmt.Fprintf(&c, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="sans-serif" font-size="13">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&c, `<rect width="%g" height="%g" fill="#fff"/>`+"\n", chartWidth, chartHeight)
	c.text((plotLeft+plotRight)/2, plotTop-25, "middle", title)
	c.axes()
	for i, curve := range curves {
		c.curve(i, curve)
	}
	c.WriteString("</svg>\n")
	if _, err := w.Write(c.Bytes()); err != nil {
		return fmt.Errorf("write chart: %w", err)
	}
	return nil
}

func (c *chart) x(z int) float64 {
	return plotLeft + (plotRight-plotLeft)*float64(z-1)/float64(c.last-1)
}

func (c *chart) y(p float64) float64 {
	down := float64(c.decades)
	if p > 0 {
		down = min(-math.Log10(p), down)
	}
	return plotTop + (plotBottom-plotTop)*down/float64(c.decades)
}

func (c *chart) text(x, y float64, anchor, s string) {
	fmt.Fprintf(c, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, html.EscapeString(s))
}

func (c *chart) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(c, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`+"\n", x1, y1, x2, y2, colour)
}

func (c *chart) axes() {
	for d := range c.decades + 1 {
		y := c.y(math.Pow10(-d))
		c.line(plotLeft, y, plotRight, y, "#ddd")
		c.text(plotLeft-8, y+4, "end", strconv.FormatFloat(math.Pow10(2-d), 'f', -1, 64)+" %")
	}
	for z := 1; z <= c.last; z += tick(c.last) {
		c.line(c.x(z), plotBottom, c.x(z), plotBottom+5, "#444")
		c.text(c.x(z), plotBottom+20, "middle", fmt.Sprint(z))
	}
	c.line(plotLeft, plotBottom, plotRight, plotBottom, "#444")
	c.line(plotLeft, plotTop, plotLeft, plotBottom, "#444")
	c.text((plotLeft+plotRight)/2, plotBottom+42, "middle", "confirmations")
	c.text(plotLeft-8, plotTop-14, "end", "risk")
}

// tick is the distance of marks, 1, 2 or 5 times a power of ten, for at most 21.
func tick(last int) int {
	for step := 1; ; step *= 10 {
		for _, t := range []int{step, 2 * step, 5 * step} {
			if (last-1)/t <= 20 {
				return t
			}
		}
	}
}

func (c *chart) curve(i int, curve Curve) {
	colour, dash := chartColours[i%len(chartColours)], ""
	if i >= len(chartColours) {
		dash = ` stroke-dasharray="6 3"`
	}
	if len(curve.Line) > 0 {
		fmt.Fprintf(c, `<polyline fill="none" stroke="%s" stroke-width="1.6"%s points="`, colour, dash)
		for _, p := range curve.Line {
			fmt.Fprintf(c, "%.1f,%.1f ", c.x(p.Z), c.y(p.P))
		}
		c.WriteString(`"/>` + "\n")
	}
	for _, p := range curve.Dots {
		if p.P == 0 {
			continue // no success among the trials: a logarithm has no place for it
		}
		fmt.Fprintf(c, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", c.x(p.Z), c.y(p.P), colour)
	}
	y := plotTop + legendStep*float64(i)
	fmt.Fprintf(c, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="%s" stroke-width="1.6"%s/>`+"\n", plotRight+16, y, plotRight+42, y, colour, dash)
	c.text(plotRight+48, y+4, "start", curve.Label)
}
