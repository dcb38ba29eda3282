package simulate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qcitycoin.org/qcity/internal/plot"
)

// pictured has every kind of curve: through zero, below the scale, without a line.
func pictured() Chart {
	return Chart{
		Title: "what & how", Subtitle: "n = 10", Risk: .001, LogZ: true,
		Curves: []Curve{
			{Label: "a < b", Line: []Point{{1, 1}, {3, .01}, {4, 0}, {5, 0}}, Dots: []Point{{1, 1}, {3, .02}, {4, 0}}},
			{Label: "tiny", Line: []Point{{1, .5}, {3, 1e-30}, {4, 1e-40}}},
			{Label: "dots only", Dots: []Point{{5, .25}}},
		},
		Notes: []Note{{2, 3, "here"}},
	}
}

// shapes reads a picture back.
type shapes struct {
	dots  []dot
	lines map[string][][]plot.Point // by colour
	texts map[string]bool
}

type dot struct {
	at     plot.Point
	colour string
}

func read(t *testing.T, svg []byte) shapes {
	t.Helper()
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	all := shapes{lines: map[string][][]plot.Point{}, texts: map[string]bool{}}
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.CharData:
			all.texts[string(x)] = true
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range x.Attr {
				at[a.Name.Local] = a.Value
			}
			switch x.Name.Local {
			case "circle":
				all.dots = append(all.dots, dot{plot.XY(number(at["cx"]), number(at["cy"])), at["fill"]})
			case "polyline":
				var line []plot.Point
				for _, p := range strings.Fields(at["points"]) {
					x, y, _ := strings.Cut(p, ",")
					line = append(line, plot.XY(number(x), number(y)))
				}
				all.lines[at["stroke"]] = append(all.lines[at["stroke"]], line)
			}
		}
	}
}

// TestSVG: sound XML, one label each, dots and lines where their values are.
func TestSVG(t *testing.T) {
	svg, err := pictured().SVG()
	if err != nil {
		t.Fatal(err)
	}
	got := read(t, svg)
	for _, want := range []string{
		"a < b", "tiny", "dots only", "here", "what & how", "n = 10", "100 %", "0.00001 %", "0", "5", "confirmations", "risk",
		"calculated", "simulated", "not once in all trials", "accepted: 0.1 %",
	} {
		if !got.texts[want] {
			t.Errorf("no text %q", want)
		}
	}
	first, tiny, last := plot.Hex(shade(0, 3)), plot.Hex(shade(1, 3)), plot.Hex(shade(2, 3))
	line := got.lines[first][0]
	const zero = plotBottom - zeroBand/2
	if len(line) != 4 || line[0] != plot.XY(plotLeft, plotTop) || line[2].Y != zero || line[3] != plot.XY(plotRight, zero) {
		t.Errorf("line %v", line)
	}
	if cut := got.lines[tiny][0]; len(cut) != 2 || cut[1].X > line[1].X || cut[1].Y != plotBottom-zeroBand-8 {
		t.Errorf("a line that leaves the scale: %v", cut)
	}
	if n := len(got.lines[last]); n != 1 { // its key in the legend
		t.Errorf("%d lines of dots only", n)
	}
	var dots []dot
	for _, d := range got.dots {
		if d.at.X <= plotRight {
			dots = append(dots, d)
		}
	}
	if len(dots) != 5 || dots[0] != (dot{line[0], first}) || dots[1].at.X != line[1].X || dots[1].at.Y >= line[1].Y {
		t.Fatalf("dots %v", dots)
	}
	if dots[2] != (dot{line[2], first}) || dots[3] != (dot{line[2], plot.Hex(plot.White)}) {
		t.Errorf("no success among the trials is a hollow dot in the band of zero: %v", dots)
	}
}

// TestPNG: the same picture in pixels.
func TestPNG(t *testing.T) {
	c := pictured()
	data, err := c.PNG()
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Rect(0, 0, chartWidth*plot.PNGScale, chartHeight*plot.PNGScale); picture.Bounds() != want {
		t.Fatalf("%v, want %v", picture.Bounds(), want)
	}
	seen := map[string]int{}
	at := func(x, y int) string {
		r, g, b, _ := picture.At(x, y).RGBA()
		return plot.Hex(color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 255})
	}
	const step = 5 // is enough to see what is there
	for y := 0; y < picture.Bounds().Dy(); y += step {
		for x := 0; x < picture.Bounds().Dx(); x += step {
			seen[at(x, y)]++
		}
	}
	for colour, least := range map[color.RGBA]int{shade(0, 3): 50, shade(1, 3): 50, shade(2, 3): 5, band: 500, plot.Ink: 100, plot.White: 50_000} {
		if n := seen[plot.Hex(colour)]; n < least {
			t.Errorf("%d pixels of %v, want %d", n, colour, least)
		}
	}
	svg, err := c.SVG()
	if err != nil {
		t.Fatal(err)
	}
	last := map[plot.Point]string{} // what lies on top
	for _, d := range read(t, svg).dots {
		last[d.at] = d.colour
	}
	for p, want := range last {
		if got := at(int(p.X*plot.PNGScale), int(p.Y*plot.PNGScale)); got != want {
			t.Errorf("at %v: %s in the PNG, %s in the SVG", p, got, want)
		}
	}
}

// TestChartDeterminism: the same values give the same files.
func TestChartDeterminism(t *testing.T) {
	for name, form := range map[string]func(Chart) ([]byte, error){"SVG": Chart.SVG, "PNG": Chart.PNG} {
		one, err := form(pictured())
		other, errOther := form(pictured())
		if err != nil || errOther != nil || !bytes.Equal(one, other) {
			t.Errorf("%s differs, %v, %v", name, err, errOther)
		}
	}
}

// TestChartInside: whatever the values, dots and lines stay in the plot.
func TestChartInside(t *testing.T) {
	for _, c := range []Chart{
		{},
		{Curves: []Curve{{Dots: []Point{{1, 1}}, Line: []Point{{1, 1}}}}},
		{Curves: []Curve{{Dots: []Point{{1, 0}}, Line: []Point{{1, 0}}}}},
		{Curves: []Curve{{Dots: []Point{{MaxConfirmations, 1e-12}}, Line: []Point{{1, 5e-324}}}}, Risk: 1e-9},
		{Curves: []Curve{{Dots: []Point{{6, .1}}}}, Risk: 1e-300},
		{Curves: []Curve{{Dots: []Point{{7000, .5}}, Line: []Point{{1, .99}, {7000, .5}}}}, LogZ: true, Risk: .9},
	} {
		svg, err := c.SVG()
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, svg)
		points := slices.Concat(got.lines[plot.Hex(alarm)]...)
		for _, curve := range got.lines[plot.Hex(shade(0, 1))] {
			points = append(points, curve...)
		}
		for _, d := range got.dots {
			points = append(points, d.at)
		}
		for _, p := range points {
			if p.X < plotLeft || p.X > chartWidth || p.Y < plotTop || p.Y > plotBottom {
				t.Errorf("%+v: %v lies outside", c, p)
			}
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		last int
		log  bool
		want string
	}{
		{2, false, "[1 2]"},
		{21, false, "[1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21]"},
		{22, false, "[2 4 6 8 10 12 14 16 18 20 22]"},
		{7000, false, "[500 1000 1500 2000 2500 3000 3500 4000 4500 5000 5500 6000 6500 7000]"},
		{2, true, "[1 2]"},
		{7000, true, "[1 2 5 10 20 50 100 200 500 1000 2000 5000]"},
	} {
		if diff := cmp.Diff(c.want, fmt.Sprint(ticks(c.last, c.log))); diff != "" {
			t.Errorf("up to %d: %s", c.last, diff)
		}
	}
}

func TestPublished(t *testing.T) {
	deepest := 0
	for _, p := range Published() {
		if p.Chain == "" || p.When == "" || p.Source == "" || CheckConfirmations(p.Depth) != nil {
			t.Errorf("%+v", p)
		}
		deepest = max(deepest, p.Depth)
		// The point of the rules: whatever the hash power, none of those deeper than
		// an interval could have happened.
		if p.Depth >= 9 {
			if got := exact(t, model(PoOF, .99), p.Depth); got != 0 {
				t.Errorf("%s, %d blocks: %v", p.Chain, p.Depth, got)
			}
		}
	}
	if deepest != 7000 {
		t.Errorf("the deepest is %d", deepest)
	}
}
