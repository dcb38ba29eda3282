package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"strings"
	"testing"
)

var red = color.RGBA{200, 0, 0, 255}

// picture has a bar, a line that goes nowhere, a dot, and texts at each anchor.
func picture(c Canvas) {
	c.Line(red, 10, XY(10, 20), XY(60, 20))
	c.Line(red, 2, XY(80, 20), XY(80, 20))
	c.Dot(Ink, 4, XY(30, 20))
	for i, size := range []float64{10, 14, 30} {
		c.Text(size, float64(i)/2, XY(50, 50+20*float64(i)), "a < b & c")
	}
}

// TestSVG: sound XML with every shape and the text as it was given.
func TestSVG(t *testing.T) {
	svg := SVG(100, 100, picture)
	elements, texts := map[string]int{}, 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			elements[x.Name.Local]++
		case xml.CharData:
			if string(x) == "a < b & c" {
				texts++
			}
		}
	}
	if elements["polyline"] != 2 || elements["circle"] != 1 || texts != 3 {
		t.Errorf("%v and %d texts in\n%s", elements, texts, svg)
	}
	for _, want := range []string{`viewBox="0 0 100 100"`, `"start"`, `"middle"`, `"end"`, `points="10.0,20.0 60.0,20.0 "`, `stroke="#c80000"`} {
		if !strings.Contains(string(svg), want) {
			t.Errorf("no %s in\n%s", want, svg)
		}
	}
}

// TestPNG: the same shapes in the same places.
func TestPNG(t *testing.T) {
	data, err := PNG(100, 100, picture)
	if err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if want := image.Rect(0, 0, 100*PNGScale, 100*PNGScale); img.Bounds() != want {
		t.Fatalf("%v, want %v", img.Bounds(), want)
	}
	at := func(x, y float64) string {
		c, ok := color.RGBAModel.Convert(img.At(int(x*PNGScale), int(y*PNGScale))).(color.RGBA)
		if !ok {
			t.Fatal("not RGBA")
		}
		return Hex(c)
	}
	for _, c := range []struct {
		x, y float64
		want color.RGBA
	}{
		{12, 16, red},
		{58, 24, red},
		{8, 20, White},
		{62, 20, White},
		{40, 14, White},
		{30, 20, Ink},
		{90, 20, White},
	} {
		if got := at(c.x, c.y); got != Hex(c.want) {
			t.Errorf("%s at %v, %v, want %s", got, c.x, c.y, Hex(c.want))
		}
	}
	// The text that begins at 50 lies right of it, the one that ends there left.
	for _, c := range []struct{ from, to, y float64 }{{51, 99, 46}, {1, 49, 80}} {
		dark := 0
		for x := c.from; x < c.to; x += 1. / PNGScale {
			if at(x, c.y) != Hex(White) {
				dark++
			}
		}
		if dark == 0 {
			t.Errorf("no text between %v and %v at %v", c.from, c.to, c.y)
		}
	}
}
