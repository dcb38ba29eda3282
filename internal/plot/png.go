package plot

import (
	"bytes"
	"fmt"
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

// PNGScale is how many pixels a unit has: enough for print and dense screens.
const PNGScale = 2

// PNG returns a picture of that size in pixels, for documents that take no SVG.
func PNG(width, height float64, picture func(Canvas)) ([]byte, error) {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		return nil, fmt.Errorf("read the chart's font: %w", err)
	}
	c := raster{img: image.NewRGBA(image.Rect(0, 0, int(width*PNGScale), int(height*PNGScale))), font: parsed, faces: map[float64]font.Face{}}
	draw.Draw(c.img, c.img.Rect, image.White, image.Point{}, draw.Src)
	if picture(&c); c.err != nil {
		return nil, c.err
	}
	var b bytes.Buffer
	if err := png.Encode(&b, c.img); err != nil {
		return nil, fmt.Errorf("encode the chart: %w", err)
	}
	return b.Bytes(), nil
}

type raster struct {
	img   *image.RGBA
	font  *opentype.Font
	faces map[float64]font.Face // by size
	err   error                 // the first
}

// fill paints a polygon. The rasteriser goes through all of its area, so that is
// made no larger than needed.
func (r *raster) fill(c color.RGBA, shape ...Point) {
	var area image.Rectangle
	for _, p := range shape {
		x, y := int(p.X*PNGScale), int(p.Y*PNGScale)
		area = area.Union(image.Rect(x, y, x+2, y+2))
	}
	v := vector.NewRasterizer(area.Dx(), area.Dy())
	for i, p := range shape {
		x, y := float32(p.X*PNGScale-float64(area.Min.X)), float32(p.Y*PNGScale-float64(area.Min.Y))
		if i == 0 {
			v.MoveTo(x, y)
		} else {
			v.LineTo(x, y)
		}
	}
	v.ClosePath()
	v.Draw(r.img, area, image.NewUniform(c), image.Point{})
}

func (r *raster) Dot(c color.RGBA, radius float64, at Point) {
	const corners = 32
	var edge []Point
	for i := range corners {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / corners)
		edge = append(edge, Point{at.X + radius*cos, at.Y + radius*sin})
	}
	r.fill(c, edge...)
}

func (r *raster) Line(c color.RGBA, width float64, through ...Point) {
	for i, b := range through {
		if i == 0 || b == through[i-1] {
			continue
		}
		a := through[i-1]
		scale := width / 2 / math.Hypot(b.X-a.X, b.Y-a.Y)
		x, y := (b.Y-a.Y)*scale, (a.X-b.X)*scale // across
		r.fill(c, Point{a.X + x, a.Y + y}, Point{b.X + x, b.Y + y}, Point{b.X - x, b.Y - y}, Point{a.X - x, a.Y - y})
		if i < len(through)-1 {
			// A round joint, not quite as wide: half covered pixels would count twice.
			r.Dot(c, width/2-.3, b)
		}
	}
}

func (r *raster) Text(size, anchor float64, at Point, s string) {
	face, ok := r.faces[size]
	if !ok {
		var err error
		if face, err = opentype.NewFace(r.font, &opentype.FaceOptions{Size: size * PNGScale, DPI: 72}); err != nil {
			if r.err == nil {
				r.err = fmt.Errorf("scale the chart's font: %w", err)
			}
			return
		}
		r.faces[size] = face
	}
	d := font.Drawer{Dst: r.img, Src: image.NewUniform(Ink), Face: face}
	d.Dot = fixed.Point26_6{X: fixed.Int26_6(at.X*PNGScale*64 - anchor*float64(d.MeasureString(s))), Y: fixed.Int26_6(at.Y * PNGScale * 64)}
	d.DrawString(s)
}
