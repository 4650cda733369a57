package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// find returns what a contender cost; without costs it was not measured.
func (r results) find(contender string, s size, delay time.Duration, seeded bool) sample {
	i := slices.IndexFunc(r.samples, func(x sample) bool {
		return x.contender == contender && x.size == s && x.delay == delay && x.seeded == seeded
	})
	if i < 0 {
		return sample{}
	}
	return r.samples[i]
}

func wall(c cost) time.Duration { return c.wall }
func cpu(c cost) time.Duration  { return c.cpu }

func (s sample) median() time.Duration {
	if len(s.costs) == 0 {
		return s.calculated
	}
	return spreadOf(s.costs, wall).median
}

// shown are the contenders in the order of the columns.
var shown = []string{modes[proven].name, modes[believed].name, viem, abigen, shell}

func row(w io.Writer, cells ...string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

func head(w io.Writer, title string, cells ...string) {
	fmt.Fprintf(w, "\n**%s**\n\n", title)
	row(w, cells...)
	row(w, slices.Repeat([]string{"---"}, len(cells))...)
}

// print prints all tables, and the goals.
func (r results) print(w io.Writer, sizes []size, delays []time.Duration) {
	if len(r.samples) > 0 {
		r.times(w, "Time by entries", intersection(sizes, byEntries), delays)
		r.times(w, "Time by contracts", intersection(sizes, byContracts), delays)
		r.times(w, "Time by chains", intersection(sizes, byChains), delays)
		r.times(w, "Time, other sizes", without(sizes, distinct(byEntries, byContracts, byChains)), delays)
		r.spent(w, "Cost of one audit, nothing delayed", sizes, delays[0], false)
		r.spent(w, "Cost of one audit that finds differences, which kms-auditor looks at twice", sizes, 0, true)
	}
	if len(r.watches) > 0 {
		r.daemons(w, "Audits of the daemon, delay "+short(steadyDelay))
		r.pages(w, "Pages of the daemon")
	}
	r.goals(w)
}

// times prints how long everyone takes: median, limits, and how many times as long as kms-auditor. kms-auditor itself is
// held against the limit, one delay.
func (r results) times(w io.Writer, title string, sizes []size, delays []time.Duration) {
	if len(sizes) == 0 {
		return
	}
	head(w, title, slices.Concat([]string{"", "delay"}, shown)...)
	for _, s := range sizes {
		for _, d := range delays {
			own := r.find(shown[0], s, d, false)
			if len(own.costs) == 0 {
				continue
			}
			cells := []string{s.String(), short(d)}
			for i, name := range shown {
				x := r.find(name, s, d, false)
				switch {
				case x.median() == 0:
					cells = append(cells, "–")
				case i == 0 && d > 0:
					cells = append(cells, fmt.Sprintf("%s, %.1f limits", x.spread(), ratio(x.median(), d)))
				case i == 0:
					cells = append(cells, x.spread())
				default:
					cells = append(cells, fmt.Sprintf("%s, **%.1f×**", x.spread(), ratio(x.median(), own.median())))
				}
			}
			row(w, cells...)
		}
	}
}

func (s sample) spread() string {
	if len(s.costs) == 0 {
		return fmt.Sprintf("≈ %s", short(s.calculated))
	}
	return inWords(spreadOf(s.costs, wall))
}

func inWords(x spread[time.Duration]) string {
	if x.least == x.most {
		return short(x.median)
	}
	return fmt.Sprintf("%s (%s–%s)", short(x.median), short(x.least), short(x.most))
}

// spent prints what everyone spends.
func (r results) spent(w io.Writer, title string, sizes []size, delay time.Duration, seeded bool) {
	head(w, title, "", "", "CPU", "peak memory", "to the API", "to the provider", "bytes")
	for _, s := range sizes {
		for _, name := range slices.Insert(slices.Clone(shown), 1, modes[searched].name) {
			x := r.find(name, s, delay, seeded)
			if len(x.costs) == 0 {
				continue
			}
			row(w, s.String(), name,
				inWords(spreadOf(x.costs, cpu)),
				mib(spreadOf(x.costs, func(c cost) int64 { return c.rss }).median),
				fmt.Sprint(spreadOf(x.costs, func(c cost) int64 { return c.api.requests }).median),
				fmt.Sprint(spreadOf(x.costs, func(c cost) int64 { return c.rpc.requests }).median),
				amount(spreadOf(x.costs, func(c cost) int64 { return c.api.bytes + c.rpc.bytes }).median))
		}
	}
}

// daemons prints what the audits of a daemon cost.
func (r results) daemons(w io.Writer, title string) {
	head(w, title, "", "", "time", "limits", "CPU", "to the provider", "bytes", "peak memory", "bare round trip")
	for _, d := range r.watches {
		for _, x := range []struct {
			what  string
			costs []cost
		}{{"first", d.first}, {"unchanged", d.unchanged}, {"one change", d.changed}} {
			t := sample{costs: x.costs}
			row(w, d.size.String(), x.what, t.spread(), fmt.Sprintf("%.2f", ratio(t.median(), d.delay)), short(spreadOf(x.costs, cpu).median),
				fmt.Sprint(spreadOf(x.costs, func(c cost) int64 { return c.rpc.requests }).median),
				amount(spreadOf(x.costs, func(c cost) int64 { return c.api.bytes + c.rpc.bytes }).median), mib(d.peak), short(d.bare))
		}
	}
}

// pages prints how long the daemon's pages take.
func (r results) pages(w io.Writer, title string) {
	head(w, title, "", "", "bytes", "median", "p99")
	for _, d := range r.watches {
		for _, p := range d.web {
			packed := ""
			if p.gzip {
				packed = ", gzip"
			}
			row(w, d.size.String(), p.path+packed, amount(int64(p.bytes)), short(p.median), short(p.p99))
		}
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func mib(n int64) string { return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20)) }

func amount(n int64) string {
	switch {
	case n >= 10<<20:
		return mib(n)
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}

// short is a duration with three digits or so.
func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= 10*time.Millisecond || d == 0:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
}
