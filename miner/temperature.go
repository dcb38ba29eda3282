package miner

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
)

// cpuChips are the drivers of CPU sensors under /sys/class/hwmon, from the
// kernel's Documentation/hwmon. Board sensors are left out: what their inputs
// are wired to is anybody's guess.
var cpuChips = []string{"coretemp", "k10temp", "k8temp", "zenpower", "via_cputemp", "cpu_thermal", "soc_thermal"}

// betterLabels begin the labels of inputs that stand for a whole processor: the
// hottest core (Intel), and the die without the offset that Tctl may carry (AMD).
var betterLabels = []string{"Package id", "Tdie"}

// zoneTypes are parts of the names of thermal zones that belong to the CPU:
// x86_pkg_temp, cpu-thermal, soc-thermal, bigcore0-thermal. Not acpitz, which on
// many boards shows a constant.
var zoneTypes = []string{"x86_pkg", "cpu", "soc", "core"}

var errNoTemperature = errors.New("sysfs shows no CPU temperature sensor")

// CPUTemperature returns a function that reads the hottest CPU temperature in
// °C. fsys is the root of the file system that holds sys, os.DirFS("/") outside
// tests. Sensors that vanish are looked for again at the next call.
func CPUTemperature(fsys fs.FS) func() (float64, error) {
	var inputs []string
	return func() (float64, error) {
		if len(inputs) == 0 {
			if inputs = chipInputs(fsys); len(inputs) == 0 {
				inputs = zoneInputs(fsys)
			}
		}
		hottest, err := math.Inf(-1), errNoTemperature
		for _, name := range inputs {
			celsius, failed := readCelsius(fsys, name)
			if failed == nil {
				hottest = max(hottest, celsius)
			} else {
				err = failed
			}
		}
		if !math.IsInf(hottest, -1) {
			return hottest, nil
		}
		inputs = nil
		return 0, err
	}
}

// chipInputs lists the temperature inputs of the CPU's own sensors, see the
// kernel's Documentation/hwmon/sysfs-interface.rst.
func chipInputs(fsys fs.FS) (inputs []string) {
	chips, _ := fs.Glob(fsys, "sys/class/hwmon/hwmon*/name") // the pattern is well-formed
	for _, chip := range chips {
		if !slices.Contains(cpuChips, firstLine(fsys, chip)) {
			continue
		}
		all, _ := fs.Glob(fsys, path.Join(path.Dir(chip), "temp*_input"))
		better := slices.DeleteFunc(slices.Clone(all), func(input string) bool {
			label := firstLine(fsys, strings.TrimSuffix(input, "_input")+"_label")
			return !slices.ContainsFunc(betterLabels, func(b string) bool { return strings.HasPrefix(label, b) })
		})
		if len(better) > 0 {
			all = better
		}
		inputs = append(inputs, all...)
	}
	return inputs
}

// zoneInputs lists the thermal zones of the CPU, for boards whose sensors have
// no other driver; see the kernel's Documentation/driver-api/thermal/sysfs-api.rst.
func zoneInputs(fsys fs.FS) (inputs []string) {
	zones, _ := fs.Glob(fsys, "sys/class/thermal/thermal_zone*/type")
	for _, zone := range zones {
		kind := firstLine(fsys, zone)
		if slices.ContainsFunc(zoneTypes, func(part string) bool { return strings.Contains(kind, part) }) {
			inputs = append(inputs, path.Join(path.Dir(zone), "temp"))
		}
	}
	return inputs
}

// readCelsius reads a file of thousandths of a degree. What no working sensor
// shows counts as an error.
func readCelsius(fsys fs.FS, name string) (float64, error) {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return 0, err
	}
	text := strings.TrimSpace(string(b))
	milli, err := strconv.Atoi(text)
	if err != nil || milli <= -50_000 || milli == 0 || milli >= 150_000 {
		return 0, fmt.Errorf("%s shows %q, which is no temperature", name, text)
	}
	return float64(milli) / 1000, nil
}

func firstLine(fsys fs.FS, name string) string {
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}
