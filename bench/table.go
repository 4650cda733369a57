package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	timesHead = "| | delay | kms-auditor | TypeScript | cast loop |\n|---|---|---|---|---|"
	costsHead = "| | | CPU | peak memory | to the API | to the provider | bytes |\n|---|---|---|---|---|---|---|"
)

var delays = []time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond}

// measureAll first checks that every contender finds the differences, and then measures it with a true claim. It returns the rows
// of both tables.
func (p *programs) measureAll(ctx context.Context, w *world, runs int) (times, costs []string, err error) {
	cells, own := make([][]string, len(delays)), make([]time.Duration, len(delays))
	for i, c := range contenders {
		fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format(time.TimeOnly), w.size, c.name)
		if _, err := p.run(ctx, c, w, w.lies, w.differences); err != nil {
			return nil, nil, err
		}
		var all []cost // without a delay
		for d, delay := range delays {
			var took spread[time.Duration]
			if c.serial && delay > 0 {
				took.median = spreadOf(all, wall).median + time.Duration(all[0].api+all[0].rpc)*delay
			} else {
				w.rpc.delay.Store(int64(delay))
				w.truth.delay.Store(int64(delay))
				got := make([]cost, runs)
				for n := range got {
					if got[n], err = p.run(ctx, c, w, w.truth, []string{}); err != nil {
						return nil, nil, err
					}
				}
				if took = spreadOf(got, wall); delay == 0 {
					all = got
				}
			}
			cell := inWords(took)
			if i == 0 {
				own[d] = took.median
			} else {
				cell += fmt.Sprintf(", **%.1f×**", float64(took.median)/float64(own[d]))
			}
			cells[d] = append(cells[d], cell)
		}
		w.rpc.delay.Store(0)
		w.truth.delay.Store(0)
		figure := func(f func(cost) int64) int64 { return spreadOf(all, f).median }
		costs = append(costs, row(w.size.String(), c.name, inWords(spreadOf(all, func(c cost) time.Duration { return c.cpu })),
			amount(figure(func(c cost) int64 { return c.rss })), fmt.Sprint(all[0].api), fmt.Sprint(all[0].rpc), amount(figure(func(c cost) int64 { return c.bytes }))))
	}
	for d, delay := range delays {
		times = append(times, row(append([]string{w.size.String(), short(delay)}, cells[d]...)...))
	}
	return times, costs, nil
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

func wall(c cost) time.Duration { return c.wall }

// spread is the median, minimum and maximum of some figures.
type spread[T cmp.Ordered] struct{ median, least, most T }

func spreadOf[T cmp.Ordered](costs []cost, figure func(cost) T) spread[T] {
	all := make([]T, len(costs))
	for i, c := range costs {
		all[i] = figure(c)
	}
	slices.Sort(all)
	return spread[T]{all[len(all)/2], all[0], all[len(all)-1]}
}

// inWords formats a spread. It marks a median without limits as calculated.
func inWords(x spread[time.Duration]) string {
	if x.most == 0 {
		return "≈ " + short(x.median)
	}
	return fmt.Sprintf("%s (%s–%s)", short(x.median), short(x.least), short(x.most))
}

func amount(n int64) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.0f KiB", float64(n)/(1<<10))
}

func short(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
