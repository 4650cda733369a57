package main

import (
	"fmt"
	"io"
	"time"
)

// goal is a promise, and what was measured of it: the worst case of all.
type goal struct {
	text  string
	worst float64 // of the limit: 1 is just met, more is missed by that factor
	shown string  // empty: not measured
}

// least takes one more figure into account that must be want or more.
func (g *goal) least(figure, want float64, shown string) { g.note(want/figure, shown) }

// most takes one more figure into account that must be below want.
func (g *goal) most(figure, want float64, shown string) { g.note(figure/want, shown) }

func (g *goal) note(part float64, shown string) {
	if g.shown == "" || part > g.worst {
		g.worst, g.shown = part, shown
	}
}

func (g *goal) verdict() string {
	switch {
	case g.shown == "":
		return "not measured"
	case g.worst <= 1:
		return "met"
	}
	return fmt.Sprintf("missed by a factor of %.2f", g.worst)
}

// goals holds the results against what was promised.
func (r results) goals(w io.Writer) {
	head(w, "Goals", "goal", "the worst that was measured", "")
	for _, g := range r.held() {
		row(w, g.text, g.shown, g.verdict())
	}
}

func (r results) held() []goal {
	return []goal{
		r.faster(viem, 2, 0), r.faster(shell, 20, 1000), r.steady(), r.firstCPU(), r.unchangedCPU(),
		r.memory(large, 150), r.memory(few, 40), r.served(),
	}
}

// faster: kms-auditor is so many times as fast as another; entries is the size where, or zero for everywhere.
func (r results) faster(other string, times float64, entries int) goal {
	g := goal{text: fmt.Sprintf("`--once` at least %.0f× faster than %s, everywhere", times, other)}
	if entries > 0 {
		g.text = fmt.Sprintf("`--once` at least %.0f× faster than %s at %d entries", times, other, entries)
	}
	for _, x := range r.samples {
		own := r.find(modes[proven].name, x.size, x.delay, false)
		if x.contender != other || x.seeded || x.median() == 0 || len(own.costs) == 0 || entries > 0 && x.size.contracts*x.size.entries != entries {
			continue
		}
		f := ratio(x.median(), own.median())
		g.least(f, times, fmt.Sprintf("%.1f× at %s, delay %s", f, x.size, short(x.delay)))
	}
	return g
}

func (r results) steady() goal {
	g := goal{text: "an unchanged audit within 1.2× of one round trip of " + short(steadyDelay)}
	for _, d := range r.watches {
		took := spreadOf(d.unchanged, wall).median
		g.most(ratio(took, d.delay), 1.2, fmt.Sprintf("%s at %s, %.2f round trips", short(took), d.size, ratio(took, d.delay)))
	}
	return g
}

func (r results) firstCPU() goal {
	g := goal{text: "100 contracts with 1,000 entries each, first time: under 2 s of CPU"}
	for _, x := range r.samples {
		if x.contender == modes[proven].name && x.size == large && !x.seeded {
			spent := spreadOf(x.costs, cpu).median
			g.most(spent.Seconds(), 2, fmt.Sprintf("%s by --once, delay %s", short(spent), short(x.delay)))
		}
	}
	for _, d := range r.watches {
		if d.size == large {
			g.most(d.first[0].cpu.Seconds(), 2, short(d.first[0].cpu)+" by the daemon, with all events")
		}
	}
	return g
}

func (r results) unchangedCPU() goal {
	g := goal{text: "the same, unchanged: under 100 ms of CPU"}
	for _, d := range r.watches {
		if d.size == large {
			spent := spreadOf(d.unchanged, cpu).median
			g.most(ratio(spent, time.Millisecond), 100, short(spent))
		}
	}
	return g
}

// memory: the peak at a size, in MB.
func (r results) memory(s size, limit float64) goal {
	g := goal{text: fmt.Sprintf("peak memory at %s under %.0f MB", s, limit)}
	for _, x := range r.samples {
		if x.contender == modes[proven].name && x.size == s && !x.seeded {
			peak := float64(spreadOf(x.costs, func(c cost) int64 { return c.rss }).median) / 1e6
			g.most(peak, limit, fmt.Sprintf("%.0f MB by --once, delay %s", peak, short(x.delay)))
		}
	}
	for _, d := range r.watches {
		if d.size == s {
			peak := float64(d.peak) / 1e6
			g.most(peak, limit, fmt.Sprintf("%.0f MB by the daemon", peak))
		}
	}
	return g
}

func (r results) served() goal {
	g := goal{text: "`/metrics` and the page under 20 ms at 10,000 entries (median)"}
	for _, d := range r.watches {
		if d.size != (size{1, 10_000, 1}) {
			continue
		}
		for _, p := range d.web {
			g.most(ratio(p.median, time.Millisecond), 20, fmt.Sprintf("%s for %s (gzip %t), p99 %s", short(p.median), p.path, p.gzip, short(p.p99)))
		}
	}
	return g
}
