package main

import (
	"cmp"
	"fmt"
	"image/color"
	"math"
	"os"
	"slices"
	"strconv"

	"qcitycoin.org/qcity/internal/plot"
	"qcitycoin.org/qcity/miner/bench"
)

// The chart's measures, in units of package plot.
const (
	benchWidth           = 920.0
	benchLeft            = 170.0 // the bars begin here
	benchRight           = 740.0 // and end here; values stand right of them
	benchTop             = 78.0
	benchRow             = 34.0
	benchBar             = 18.0
	benchBottom          = 56.0 // below the last row
	benchFont, benchHead = 13.0, 17.0
	whisker              = 4.0 // half the width of a whisker's end
)

var (
	benchGrid = color.RGBA{222, 222, 222, 255}
	benchBlue = color.RGBA{130, 170, 210, 255}
	benchBest = color.RGBA{54, 105, 170, 255}
)

// benchRows returns the kernels that were measured, the fastest first.
func benchRows(r *bench.Report) []bench.KernelResult {
	var rows []bench.KernelResult
	for _, k := range r.Kernels {
		if k.MHs.Or(0) > 0 {
			rows = append(rows, k)
		}
	}
	slices.SortStableFunc(rows, func(a, b bench.KernelResult) int { return cmp.Compare(b.MHs.Or(0), a.MHs.Or(0)) })
	return rows
}

// writeBenchChart draws a bar to each kernel's median with a whisker from p10 to
// p90, in the form that the file's name ends in.
func writeBenchChart(file string, r *bench.Report) error {
	rows := benchRows(r)
	height := benchTop + benchRow*float64(len(rows)) + benchBottom
	picture := func(c plot.Canvas) { drawBench(c, r, rows) }
	data := plot.SVG(benchWidth, height, picture)
	if chartForm(file) == ".png" {
		var err error
		if data, err = plot.PNG(benchWidth, height, picture); err != nil {
			return err
		}
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return fmt.Errorf("write --chart: %w", err)
	}
	return nil
}

func drawBench(c plot.Canvas, r *bench.Report, rows []bench.KernelResult) {
	most := 0.
	for _, k := range rows {
		most = max(most, k.P90.Or(0))
	}
	x := func(mhs float64) float64 { return benchLeft + (benchRight-benchLeft)*mhs/most }
	bottom := benchTop + benchRow*float64(len(rows))
	c.Text(benchHead, .5, plot.XY(benchWidth/2, 28), "SHA-256d kernels")
	c.Text(benchFont, .5, plot.XY(benchWidth/2, 50), fmt.Sprintf("%s; version %s, %s", whatHashed(&r.Setup), r.Version, r.Date))
	for i, step := 0, tickStep(most); float64(i)*step <= most; i++ {
		at := x(float64(i) * step)
		c.Line(benchGrid, 1, plot.XY(at, benchTop), plot.XY(at, bottom))
		c.Text(benchFont, .5, plot.XY(at, bottom+18), strconv.FormatFloat(float64(i)*step, 'g', 4, 64))
	}
	c.Text(benchFont, .5, plot.XY((benchLeft+benchRight)/2, bottom+42), "MH/s: median, and the range from p10 to p90")
	stdlib := 0.
	if k := r.Kernel("stdlib"); k != nil {
		stdlib = k.MHs.Or(0)
	}
	for i, k := range rows {
		y, colour := benchTop+benchRow*(float64(i)+.5), benchBlue
		if k.Name == r.Best {
			colour = benchBest
		}
		median, low, high := k.MHs.Or(0), x(k.P10.Or(0)), x(k.P90.Or(0))
		c.Line(colour, benchBar, plot.XY(benchLeft, y), plot.XY(x(median), y))
		c.Line(plot.Ink, 1.5, plot.XY(low, y), plot.XY(high, y))
		for _, end := range []float64{low, high} {
			c.Line(plot.Ink, 1.5, plot.XY(end, y-whisker), plot.XY(end, y+whisker))
		}
		c.Text(benchFont, 1, plot.XY(benchLeft-10, y+4.5), k.Name)
		text := strconv.FormatFloat(median, 'f', 2, 64)
		if stdlib > 0 && k.Name != "stdlib" {
			text += fmt.Sprintf(", %.1f × stdlib", median/stdlib)
		}
		c.Text(benchFont, 0, plot.XY(max(high, x(median))+10, y+4.5), text)
	}
	c.Line(plot.Ink, 1, plot.XY(benchLeft, benchTop), plot.XY(benchLeft, bottom))
}

// tickStep returns the step of an axis up to most: 1, 2 or 5 times a power of ten,
// at most ten of them.
func tickStep(most float64) float64 {
	power := math.Pow10(int(math.Floor(math.Log10(most / 10))))
	for _, digit := range []float64{1, 2, 5} {
		if digit*power*10 >= most {
			return digit * power
		}
	}
	return 10 * power
}
