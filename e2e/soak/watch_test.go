//go:build e2e

package soak_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// visitor fetches pages of the daemon repeatedly, like a scraper or a browser.
type visitor struct {
	name  string
	paths []string
	every time.Duration

	mu     sync.Mutex
	took   []time.Duration
	failed []string
	last   string // the last good answer
}

func (v *visitor) run(ctx context.Context, url string) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(v.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, path := range v.paths {
			began := time.Now()
			body, err := fetch(ctx, client, url+path)
			v.mu.Lock()
			if err == nil {
				v.took, v.last = append(v.took, time.Since(began)), body
			} else if ctx.Err() == nil {
				v.failed = append(v.failed, err.Error())
			}
			v.mu.Unlock()
		}
	}
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), err
}

func (v *visitor) answer() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

func (v *visitor) String() string {
	slices.Sort(v.took)
	return fmt.Sprintf("%-10s %6d answers, median %6s, p99 %6s, %d errors %q", v.name, len(v.took),
		quantile(v.took, 0.5).Round(100*time.Microsecond), quantile(v.took, 0.99).Round(100*time.Microsecond), len(v.failed), v.failed[:min(len(v.failed), 3)])
}

// figures lists the sampled figures with their units.
var figures = []struct {
	name, unit string
	per        float64 // sample units per unit
}{
	{"resident memory", "MiB", 1 << 20},
	{"proportional memory", "MiB", 1 << 20},
	{"heap in use", "MiB", 1 << 20},
	{"heap after collection", "MiB", 1 << 20},
	{"goroutines", "", 1},
	{"threads", "", 1},
	{"file descriptors", "", 1},
	{"series", "", 1},
	{"state file", "KiB", 1 << 10},
	{"files beside it", "KiB", 1 << 10},
}

// sample takes one sample of the process, in the order of figures.
func sample(pid int, metrics, state string) ([]float64, error) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	rss, err := kilobytes(proc+"status", "VmRSS:")
	if err != nil {
		return nil, err
	}
	pss, err := kilobytes(proc+"smaps_rollup", "Pss:")
	if err != nil {
		return nil, err
	}
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(state)
	if err != nil {
		return nil, err
	}
	beside := -info.Size()
	err = filepath.Walk(filepath.Dir(state), func(_ string, f os.FileInfo, err error) error {
		if err == nil && f.Mode().IsRegular() {
			beside += f.Size()
		}
		return nil // a file may be gone
	})
	// The garbage collector lets the heap grow to twice the live heap.
	return []float64{rss, pss, series(metrics, "go_memstats_heap_inuse_bytes "), series(metrics, "go_memstats_next_gc_bytes ") / 2, series(metrics, "go_goroutines "),
		series(metrics, "go_threads "), float64(len(fds)), float64(strings.Count(metrics, "\nkms_auditor_")), float64(info.Size()), float64(beside)}, err
}

func kilobytes(file, key string) (float64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(b)) {
		if fields := strings.Fields(l); len(fields) > 1 && fields[0] == key {
			kb, err := strconv.ParseFloat(fields[1], 64)
			return kb * 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, key)
}

// table prints the figures and returns those that grow.
func table(samples [][]float64, apart time.Duration) (text string, growing []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-22s %5s %10s %10s %10s %12s %10s  %s\n", "", "", "start", "end", "max", "slope/h", "std error", "verdict")
	for i, f := range figures {
		column := make([]float64, len(samples))
		for n, s := range samples {
			column[n] = s[i] / f.per
		}
		s, verdict := slopeOf(column, apart), "flat"
		if !s.flat() {
			verdict, growing = "not flat", append(growing, f.name)
		}
		fmt.Fprintf(&b, "%-22s %5s %10.1f %10.1f %10.1f %+12.2f %10.2f  %s\n", f.name, f.unit, s.start, s.end, s.most, s.perHour, s.err, verdict)
	}
	return b.String(), growing
}

func TestSeriesOfMetrics(t *testing.T) {
	const text = "# TYPE a gauge\na{b=\"c d\"} 1.5\na{b=\"e\"} 2\nab 4\n"
	for name, want := range map[string]float64{"a{": 3.5, `a{b="e"}`: 2, "ab ": 4, "c": 0} {
		if got := series(text, name); got != want {
			t.Errorf("%s adds up to %v, want %v", name, got, want)
		}
	}
}
