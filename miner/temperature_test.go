package miner

import (
	"math"
	"strings"
	"testing"
	"testing/fstest"
)

// nowhere is a machine without files.
var nowhere = fstest.MapFS{}

func files(pairs ...string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		fsys[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1] + "\n")}
	}
	return fsys
}

func TestCPUTemperature(t *testing.T) {
	const chip, zone = "sys/class/hwmon/hwmon", "sys/class/thermal/thermal_zone"
	for _, c := range []struct {
		name string
		fsys fstest.MapFS
		want float64 // NaN: an error
		err  string
	}{
		{"Intel: the package stands for its cores", files(
			chip+"0/name", "acpitz", chip+"0/temp1_input", "99000",
			chip+"1/name", "coretemp", chip+"1/temp1_label", "Package id 0", chip+"1/temp1_input", "61000",
			chip+"1/temp2_label", "Core 0", chip+"1/temp2_input", "77000",
		), 61, ""},
		{"two packages: the hotter", files(
			chip+"0/name", "coretemp", chip+"0/temp1_label", "Package id 0", chip+"0/temp1_input", "61000",
			chip+"1/name", "coretemp", chip+"1/temp1_label", "Package id 1", chip+"1/temp1_input", "64500",
		), 64.5, ""},
		{"AMD with an offset: the die", files(
			chip+"3/name", "k10temp", chip+"3/temp1_label", "Tctl", chip+"3/temp1_input", "95000",
			chip+"3/temp2_label", "Tdie", chip+"3/temp2_input", "68000",
		), 68, ""},
		{"AMD without: the hottest", files(
			chip+"3/name", "k10temp", chip+"3/temp1_label", "Tctl", chip+"3/temp1_input", "65125",
			chip+"3/temp3_label", "Tccd1", chip+"3/temp3_input", "66250",
		), 66.25, ""},
		{"one of two inputs fails", files(
			chip+"3/name", "k10temp", chip+"3/temp1_input", "65000", chip+"3/temp2_input", "oops",
		), 65, ""},
		{"board with thermal zones", files(
			zone+"0/type", "soc-thermal", zone+"0/temp", "48000",
			zone+"1/type", "bigcore0-thermal", zone+"1/temp", "52000",
			zone+"2/type", "gpu-thermal", zone+"2/temp", "90000",
		), 52, ""},
		{"PC without its driver", files(zone+"1/type", "x86_pkg_temp", zone+"1/temp", "55000"), 55, ""},
		{"only a sensor that is not the CPU's", files(zone+"0/type", "acpitz", zone+"0/temp", "27800"), math.NaN(), "no CPU temperature sensor"},
		{"nothing", nowhere, math.NaN(), "no CPU temperature sensor"},
		{"stuck at zero", files(zone+"0/type", "cpu-thermal", zone+"0/temp", "0"), math.NaN(), `shows "0"`},
		{"too hot to be true", files(zone+"0/type", "cpu-thermal", zone+"0/temp", "255000"), math.NaN(), `shows "255000"`},
		{"below zero", files(zone+"0/type", "cpu-thermal", zone+"0/temp", "-5500"), -5.5, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := CPUTemperature(c.fsys)()
			if math.IsNaN(c.want) {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v °C, error %v, want %q", got, err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("%v °C, error %v, want %v", got, err, c.want)
			}
		})
	}
}

// TestSensorMoves: drivers that are loaded anew get other numbers.
func TestSensorMoves(t *testing.T) {
	fsys := files("sys/class/hwmon/hwmon0/name", "k10temp", "sys/class/hwmon/hwmon0/temp1_input", "40000")
	read := CPUTemperature(fsys)
	for i, want := range []float64{40, 0, 41} {
		switch i {
		case 1:
			clear(fsys)
		case 2:
			for name, f := range files("sys/class/hwmon/hwmon5/name", "k10temp", "sys/class/hwmon/hwmon5/temp1_input", "41000") {
				fsys[name] = f
			}
			read() // the one that looks again
		}
		got, err := read()
		if (err == nil) != (want > 0) || err == nil && got != want {
			t.Fatalf("reading %d: %v °C, error %v", i, got, err)
		}
	}
}
