//go:build e2e

package soak_test

import (
	"math"
	"testing"
	"time"
)

// slope returns the growth of a figure per hour, by least squares over the last two thirds of its samples. The samples are averaged
// in groups first, because neighbours on a sawtooth are not independent.
type slope struct {
	start, end, most, mean float64
	perHour, err           float64 // and its standard error
}

const (
	pieces    = 24
	threshold = 3    // standard errors
	tolerated = 0.02 // of the mean, an hour
)

func slopeOf(samples []float64, apart time.Duration) slope {
	s := slope{start: samples[0], end: samples[len(samples)-1], most: samples[0]}
	for _, v := range samples {
		s.most = math.Max(s.most, v)
	}
	tail := samples[len(samples)/3:]
	n := min(pieces, len(tail))
	x, y := make([]float64, n), make([]float64, n)
	for i := range n {
		from, to := i*len(tail)/n, (i+1)*len(tail)/n
		for at, v := range tail[from:to] {
			x[i] += float64(from+at) * apart.Hours() / float64(to-from)
			y[i] += v / float64(to-from)
		}
	}
	var mx, my, sxx, sxy float64
	for i := range n {
		mx, my = mx+x[i]/float64(n), my+y[i]/float64(n)
	}
	for i := range n {
		sxx += (x[i] - mx) * (x[i] - mx)
		sxy += (x[i] - mx) * (y[i] - my)
	}
	s.mean, s.perHour = my, sxy/sxx
	var rest float64
	for i := range n {
		r := y[i] - my - s.perHour*(x[i]-mx)
		rest += r * r
	}
	s.err = math.Sqrt(rest / float64(n-2) / sxx)
	return s
}

// flat reports whether the figure does not grow by more than noise or a tolerated rate.
func (s slope) flat() bool {
	return s.perHour <= threshold*s.err || s.perHour <= tolerated*s.mean
}

func TestSlope(t *testing.T) {
	for _, row := range []struct {
		sentence string
		of       func(second float64) float64
		perHour  float64
		flat     bool
	}{
		{"what stands still is flat", func(float64) float64 { return 7 }, 0, true},
		{"what grows by one a second is not", func(s float64) float64 { return s }, 3600, false},
		{"a sawtooth is flat", func(s float64) float64 { return math.Mod(s, 5) }, 0, true},
		{"a sawtooth that rises is not", func(s float64) float64 { return math.Mod(s, 5) + s/10 }, 360, false},
		{"what shrinks is flat", func(s float64) float64 { return -s }, -3600, true},
		{"what grew at first is", func(s float64) float64 { return math.Min(s, 100) }, 0, true},
	} {
		samples := make([]float64, 600)
		for i := range samples {
			samples[i] = row.of(float64(i))
		}
		got := slopeOf(samples, time.Second)
		if math.Abs(got.perHour-row.perHour) > max(4*got.err, 1e-6) || got.flat() != row.flat {
			t.Errorf("%s: %.2f an hour with an error of %.2f", row.sentence, got.perHour, got.err)
		}
	}
}

// quantile returns the quantile of sorted samples.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}
