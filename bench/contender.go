package main

import (
	"cmp"
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
	sequential bool // it sends a request when the one before is answered
	most       int  // entries that it is asked for; zero: any number
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

// sample is what runs of a contender cost.
type sample struct {
	contender string
	size      size
	delay     time.Duration
	seeded    bool
	costs     []cost
}

// spread is the median of some figures, and their limits.
type spread[T cmp.Ordered] struct{ median, least, most T }

func spreadOf[T cmp.Ordered](costs []cost, figure func(cost) T) spread[T] {
	all := make([]T, len(costs))
	for i, c := range costs {
		all[i] = figure(c)
	}
	slices.Sort(all)
	return spread[T]{all[len(all)/2], all[0], all[len(all)-1]}
}

// sample runs a contender some times.
func (w *world) sample(ctx context.Context, c contender, delay time.Duration, seeded bool, runs int) (sample, error) {
	s := sample{contender: c.name, size: w.size, delay: delay, seeded: seeded}
	w.delay(delay)
	defer w.delay(0)
	for range runs {
		spent, err := w.try(ctx, c, seeded)
		if err != nil {
			return s, err
		}
		s.costs = append(s.costs, spent)
	}
	return s, nil
}
