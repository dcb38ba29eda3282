// Package plot draws lines, dots and text, the same picture as SVG and as PNG.
package plot

import (
	"fmt"
	"image/color"
)

// Point is a place in a picture. A unit is a pixel of a screen, y grows
// downwards.
type Point struct{ X, Y float64 }

// XY returns the point at x and y.
func XY(x, y float64) Point { return Point{x, y} }

// Canvas is what a picture is drawn on; what comes later lies on top.
type Canvas interface {
	// Line joins points. It ends square, so a thick one is a bar.
	Line(c color.RGBA, width float64, through ...Point)
	Dot(c color.RGBA, radius float64, at Point)
	// Text begins at a place, or has its middle or its end there (anchor 0, ½ or
	// 1). at lies on the base line. The size is the font's, in units.
	Text(size, anchor float64, at Point, s string)
}

// Colours that pictures have in common; Ink is that of text.
var (
	White = color.RGBA{255, 255, 255, 255}
	Ink   = color.RGBA{50, 50, 50, 255}
)

// Hex returns a colour in the notation of SVG, such as "#323232".
func Hex(c color.RGBA) string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }
