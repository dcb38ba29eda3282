package simulate

import (
	"image/color"
	"math"
	"slices"
	"strconv"

	"qcitycoin.org/qcity/internal/plot"
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

// Note names a range of confirmations above the plot.
type Note struct {
	From, To int
	Label    string
}

// Chart is a picture of curves over confirmations, with a logarithmic scale of
// probability. A logarithm has no place for zero, so zero has a band of its own
// below the scale; a line whose values become too small but not zero ends at the
// scale's lower edge.
type Chart struct {
	Title, Subtitle string
	// Curves, the highest first, as the legend lists them.
	Curves []Curve
	// Risk is what somebody accepts, drawn as a line.
	Risk float64
	// LogZ makes the scale of confirmations logarithmic, too.
	LogZ  bool
	Notes []Note
}

// The chart's measures, in units of package plot.
const (
	chartWidth, chartHeight = 920.0, 580.0
	plotLeft, plotRight     = 85.0, 705.0
	plotTop, plotBottom     = 95.0, 520.0
	zeroBand                = 28.0 // height, at the bottom of the plot
	fontSize, titleSize     = 13.0, 17.0
	lineWidth, dotRadius    = 1.8, 3.5
	legendStep              = 21.0
	mostDecades             = 7 // of lines; dots are always inside
)

var (
	band  = color.RGBA{240, 240, 240, 255}
	grid  = color.RGBA{222, 222, 222, 255}
	alarm = color.RGBA{0, 128, 60, 255}
)

// ramp goes from strong to weak attackers and shows their order to people who see
// colours differently as well (P. Tol's sunset, without what is lost on white).
var ramp = []color.RGBA{
	{165, 0, 38, 255},
	{221, 61, 45, 255},
	{246, 126, 75, 255},
	{253, 179, 102, 255},
	{110, 166, 205, 255},
	{74, 123, 183, 255},
	{54, 75, 154, 255},
}

// shade is the colour of the ith of several curves.
func shade(i, of int) color.RGBA {
	at := float64(i) / float64(max(of-1, 1)) * float64(len(ramp)-1)
	k := min(int(at), len(ramp)-2)
	a, b, part := ramp[k], ramp[k+1], at-float64(k)
	mix := func(a, b uint8) uint8 { return uint8(math.Round(float64(a) + part*(float64(b)-float64(a)))) }
	return color.RGBA{mix(a.R, b.R), mix(a.G, b.G), mix(a.B, b.B), 255}
}

// SVG draws the chart for browsers and vector programs.
func (p Chart) SVG() ([]byte, error) { return plot.SVG(chartWidth, chartHeight, p.draw), nil }

// PNG draws the same chart in pixels, for documents that take no SVG.
func (p Chart) PNG() ([]byte, error) { return plot.PNG(chartWidth, chartHeight, p.draw) }

// chart maps values to places.
type chart struct {
	Chart
	plot.Canvas
	last    int     // confirmations at the right edge
	decades int     // powers of ten from 100 % down to floor
	floor   float64 // the scale's lower edge
	zero    float64 // where zero is
	none    bool    // dots for zero exist
}

func (p Chart) draw(on plot.Canvas) {
	c := chart{Chart: p, Canvas: on, last: 2, decades: 1, floor: plotBottom}
	deep := func(p float64) int { return int(math.Ceil(-math.Log10(p) - 1e-9)) }
	if c.Risk > 0 {
		c.decades = max(c.decades, min(deep(c.Risk/2), mostDecades))
	}
	for _, curve := range c.Curves {
		for i, p := range slices.Concat(curve.Dots, curve.Line) {
			c.last = max(c.last, p.Z)
			switch dot := i < len(curve.Dots); {
			case p.P == 0:
				c.floor, c.zero, c.none = plotBottom-zeroBand-8, plotBottom-zeroBand/2, c.none || dot
			case dot:
				c.decades = max(c.decades, deep(p.P))
			default:
				c.decades = max(c.decades, min(deep(p.P), mostDecades))
			}
		}
	}
	c.axes()
	for i, curve := range c.Curves {
		c.curve(i, curve)
	}
	c.legend()
}

func (c *chart) x(z int) float64 {
	part := float64(z-1) / float64(c.last-1)
	if c.LogZ {
		part = math.Log(float64(z)) / math.Log(float64(c.last))
	}
	return plotLeft + (plotRight-plotLeft)*part
}

// y may lie below the floor.
func (c *chart) y(p float64) float64 {
	if p == 0 {
		return c.zero
	}
	return plotTop - (c.floor-plotTop)*math.Log10(p)/float64(c.decades)
}

func (c *chart) place(p Point) plot.Point { return plot.XY(c.x(p.Z), c.y(p.P)) }

func (c *chart) axes() {
	const middle = (plotLeft + plotRight) / 2
	c.Text(titleSize, .5, plot.XY(middle, 28), c.Title)
	c.Text(fontSize, .5, plot.XY(middle, 50), c.Subtitle)
	c.Text(fontSize, 1, plot.XY(plotLeft-8, plotTop-16), "risk")
	c.Text(fontSize, .5, plot.XY(middle, plotBottom+44), "confirmations")
	for d := range c.decades + 1 {
		for _, digit := range []float64{1, 2, 5} {
			p := digit * math.Pow10(-d)
			if p > 1 || digit > 1 && c.decades > 4 {
				continue
			}
			y, format := c.y(p), byte('f')
			if d > mostDecades {
				format = 'e'
			}
			c.Line(grid, 1, plot.XY(plotLeft, y), plot.XY(plotRight, y))
			c.Text(fontSize, 1, plot.XY(plotLeft-8, y+4), strconv.FormatFloat(digit*math.Pow10(2-d), format, -1, 64)+" %")
		}
	}
	if c.zero > 0 {
		c.Line(band, zeroBand, plot.XY(plotLeft, c.zero), plot.XY(plotRight, c.zero))
		c.Text(fontSize, 1, plot.XY(plotLeft-8, c.zero+4), "0")
	}
	c.Line(plot.Ink, 1, plot.XY(plotLeft, plotTop), plot.XY(plotLeft, c.floor))
	c.Line(plot.Ink, 1, plot.XY(plotLeft, plotBottom), plot.XY(plotRight, plotBottom))
	for _, z := range ticks(c.last, c.LogZ) {
		x := c.x(z)
		c.Line(plot.Ink, 1, plot.XY(x, plotBottom), plot.XY(x, plotBottom+5))
		c.Text(fontSize, .5, plot.XY(x, plotBottom+21), strconv.Itoa(z))
	}
	for _, n := range c.Notes {
		from, to := c.x(n.From)-dotRadius, c.x(n.To)+dotRadius
		c.Line(plot.Ink, 1, plot.XY(from, plotTop-8), plot.XY(from, plotTop-13), plot.XY(to, plotTop-13), plot.XY(to, plotTop-8))
		c.Text(fontSize, .5, plot.XY((from+to)/2, plotTop-19), n.Label)
	}
	if y := c.y(c.Risk); c.Risk > 0 && y <= c.floor {
		c.Line(alarm, 1, plot.XY(plotLeft, y), plot.XY(plotRight, y))
	}
}

// ticks are the multiples of 1, 2 or 5 times a power of ten, at most 21 of them; on
// a logarithmic scale those numbers themselves.
func ticks(last int, log bool) (all []int) {
	for step := 1; ; step *= 10 {
		for _, t := range []int{step, 2 * step, 5 * step} {
			switch {
			case log && t > last:
				return all
			case log:
				all = append(all, t)
			case (last-1)/t <= 20:
				for z := t; z <= last; z += t {
					all = append(all, z)
				}
				return all
			}
		}
	}
}

// curve draws the ith curve, a little thinner than the one before, which is thus
// seen where both are in the same place.
func (c *chart) curve(i int, curve Curve) {
	colour, extra := shade(i, len(c.Curves)), 2-2*float64(i+1)/float64(len(c.Curves))
	var line []plot.Point
	for _, p := range curve.Line {
		switch at := c.place(p); {
		case at.Y <= c.floor || p.P == 0:
			line = append(line, at)
		case len(line) > 0: // too small from here on: risks fall
			before := line[len(line)-1]
			part := (c.floor - before.Y) / (at.Y - before.Y)
			c.Line(colour, lineWidth+extra, append(line, plot.XY(before.X+part*(at.X-before.X), c.floor))...)
			line = nil
		}
	}
	c.Line(colour, lineWidth+extra, line...)
	for _, p := range curve.Dots {
		c.mark(colour, dotRadius+extra, c.place(p), p.P == 0)
	}
}

// mark is a dot, hollow if it stands for no success among the trials.
func (c *chart) mark(colour color.RGBA, radius float64, at plot.Point, hollow bool) {
	c.Dot(colour, radius, at)
	if hollow {
		c.Dot(plot.White, radius-1.3, at)
	}
}

func (c *chart) legend() {
	const left, right = plotRight + 18, plotRight + 46
	const middle = (left + right) / 2
	y := plotTop
	entry := func(label string, draw func()) {
		draw()
		c.Text(fontSize, 0, plot.XY(right+8, y+4), label)
		y += legendStep
	}
	key := func(colour color.RGBA, width float64) func() {
		return func() { c.Line(colour, width, plot.XY(left, y), plot.XY(right, y)) }
	}
	for i, curve := range c.Curves {
		entry(curve.Label, key(shade(i, len(c.Curves)), 2*lineWidth))
	}
	y += legendStep / 2
	entry("calculated", key(plot.Ink, lineWidth))
	entry("simulated", func() { c.mark(plot.Ink, dotRadius, plot.XY(middle, y), false) })
	if c.none {
		entry("not once in all trials", func() { c.mark(plot.Ink, dotRadius, plot.XY(middle, y), true) })
	}
	if c.Risk > 0 {
		entry("accepted: "+strconv.FormatFloat(100*c.Risk, 'g', 4, 64)+" %", key(alarm, 1))
	}
}
