package simulate

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

// TestChart reads the picture back: sound XML, all curves and dots inside it, one
// label each, and a dot on the line it belongs to.
func TestChart(t *testing.T) {
	var svg strings.Builder
	curves := []Curve{
		{Label: "a < b", Line: []Point{{1, 1}, {3, .01}}, Dots: []Point{{1, 1}, {3, .01}, {2, 0}}},
		{Label: "tiny", Line: []Point{{1, .5}, {3, 1e-30}, {5, 0}}},
		{Label: "dots only", Dots: []Point{{5, .25}}},
	}
	if err := WriteChart(&svg, "what & how", curves); err != nil {
		t.Fatal(err)
	}
	var circles, lines []string
	texts := map[string]bool{}
	d := xml.NewDecoder(strings.NewReader(svg.String()))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.CharData:
			texts[string(x)] = true
		case xml.StartElement:
			at := map[string]string{}
			for _, a := range x.Attr {
				at[a.Name.Local] = a.Value
			}
			switch x.Name.Local {
			case "circle":
				circles = append(circles, at["cx"]+","+at["cy"])
			case "polyline":
				lines = append(lines, strings.Fields(at["points"])...)
			}
		}
	}
	for _, want := range []string{"a < b", "tiny", "dots only", "what & how", "100 %", "0.00001 %", "5", "confirmations"} {
		if !texts[want] {
			t.Errorf("no text %q", want)
		}
	}
	if len(circles) != 3 || len(lines) != 5 {
		t.Fatalf("%d dots and %d points of lines", len(circles), len(lines))
	}
	if circles[0] != lines[0] || circles[1] != lines[1] {
		t.Errorf("dots %v, line %v", circles, lines)
	}
	for _, place := range append(circles, lines...) {
		x, y, _ := strings.Cut(place, ",")
		fx, errX := strconv.ParseFloat(x, 64)
		fy, errY := strconv.ParseFloat(y, 64)
		if errX != nil || errY != nil || fx < plotLeft || fx > plotRight || fy < plotTop || fy > plotBottom {
			t.Errorf("point %q lies outside the plot", place)
		}
	}
}

type full struct{}

var errFull = errors.New("no space")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestChartWriteError(t *testing.T) {
	if err := WriteChart(full{}, "", nil); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

func TestTick(t *testing.T) {
	for last, want := range map[int]int{2: 1, 10: 1, 21: 1, 22: 2, 100: 5, 7000: 500, 10_000: 500} {
		if got := tick(last); got != want {
			t.Errorf("up to %d: a mark every %d, want %d", last, got, want)
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
