package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// contender is a program that says where claim and chain differ.
type contender struct {
	name       string
	run        func(*world) (command, error)
	read       func(stdout []byte) (answer, error)
	sequential bool          // it sends a request when the one before is answered
	most       int           // entries that it is asked for; zero: any number
	patience   time.Duration // of a run that is longer, the time is calculated; zero: it is always measured
}

// exits are the codes of a program that could answer: nothing differs, or something does.
var exits = map[bool]int{false: 0, true: 1}

// try runs a contender once. A wrong answer is an error.
func (w *world) try(ctx context.Context, c contender, seeded bool) (cost, error) {
	fail := func(err error) (cost, error) {
		return cost{}, fmt.Errorf("%s against %s: %w", c.name, w.size, err)
	}
	cmd, err := c.run(w)
	if err != nil {
		return fail(err)
	}
	r, err := w.measure(ctx, cmd)
	if err != nil {
		return fail(err)
	}
	if r.exit != exits[seeded] {
		return fail(fmt.Errorf("exit code %d, want %d\n%s", r.exit, exits[seeded], tail(r.stderr)))
	}
	got, err := c.read(r.stdout)
	if err != nil {
		return fail(err)
	}
	if want := w.truth(seeded); !slices.Equal(want, got) {
		return fail(fmt.Errorf("it finds %d differences, and there are %d: \n%s\nwant\n%s", len(got), len(want), tail([]byte(strings.Join(got, "\n"))), tail([]byte(strings.Join(want, "\n")))))
	}
	return r.cost, nil
}

// sample is what runs of a contender cost, in one world and with one delay.
type sample struct {
	contender  string
	size       size
	delay      time.Duration
	seeded     bool // the API claimed something that is not so
	costs      []cost
	calculated time.Duration // where it was not run: what it would take
}

// tooLong is when one run is enough.
const tooLong = 15 * time.Second

// sample runs a contender against the world: once for the right answer to a wrong claim, and then some times for each
// delay.
func (w *world) sample(ctx context.Context, c contender, delays []time.Duration, runs int, patient bool) (all []sample, err error) {
	w.tell(true)
	spent, err := w.try(ctx, c, true)
	w.tell(false)
	if err != nil {
		return nil, err
	}
	all = append(all, sample{contender: c.name, size: w.size, seeded: true, costs: []cost{spent}})
	defer w.delay(0)
	for _, d := range delays {
		s, runs := sample{contender: c.name, size: w.size, delay: d}, runs
		if c.sequential {
			expected := spent.wall + d*time.Duration(spent.rpc.requests+spent.api.requests)
			if expected > tooLong {
				runs = 1
			}
			if expected > c.patience && !patient {
				s.calculated, runs = expected, 0
			}
		}
		w.delay(d)
		for range runs {
			spent, err := w.try(ctx, c, false)
			if err != nil {
				return nil, err
			}
			s.costs = append(s.costs, spent)
		}
		all = append(all, s)
	}
	return all, nil
}
