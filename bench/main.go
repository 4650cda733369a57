// Command bench measures kms-auditor side by side with what one would write instead, against one chain and one API.
//
// For each size of the world it makes a chain (ledger.go), which a real geth serves, and an API with the same lists
// (world.go), puts proxies before both that delay and count (proxy.go), and runs every contender as a process of its own
// (launch.go). Whoever gives a wrong answer ends the run. tables.go prints what was measured.
//
// It needs what e2e/setup.sh installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// list is a flag of values between commas.
type list[T any] struct {
	values []T
	parse  func(string) (T, error)
}

func (l *list[T]) String() string { return strings.Trim(fmt.Sprint(l.values), "[]") }

func (l *list[T]) Set(text string) error {
	l.values = nil
	for part := range strings.SplitSeq(text, ",") {
		v, err := l.parse(part)
		if err != nil {
			return err
		}
		l.values = append(l.values, v)
	}
	return nil
}

func run(ctx context.Context, args []string) error {
	sizes := list[size]{[]size{{1, 10, 1}, {1, 1000, 1}, {1, 10_000, 1}, {100, 1000, 8}}, parseSize}
	delays := list[time.Duration]{[]time.Duration{0, 50 * time.Millisecond}, time.ParseDuration}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.Var(&sizes, "size", "CONTRACTSxENTRIES or CONTRACTSxENTRIES@CHAINS, with commas between")
	fs.Var(&delays, "delay", "of each request to API and provider, with commas between")
	runs := fs.Int("runs", 3, "runs of each contender")
	kind := fs.String("profile", "", "cpu or heap: writes a profile of kms-auditor and measures nothing else")
	name := fs.String("case", "1x1000/proven", "what to profile: SIZE/proven, /searched or /believed, or SIZE/daemon for unchanged audits")
	out := fs.String("o", "", "file of the profile (empty: SIZE-MODE.KIND.pprof in this folder)")
	keep := fs.String("keep", "", "folder where chains are kept, so that they are made only once")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *kind != "" {
		return profile(ctx, *kind, *name, *out, *keep, delays.values[0])
	}
	dir, err := os.MkdirTemp("", "kms-auditor-bench-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	p, err := newPrograms(dir)
	if err != nil {
		return err
	}
	p.keep = *keep
	for _, s := range sizes.values {
		w, err := p.newWorld(s)
		if err != nil {
			return err
		}
		for _, mode := range []string{proven, searched, believed} {
			for _, d := range delays.values {
				s, err := w.sample(ctx, once(mode), d, false, *runs)
				if err != nil {
					w.close()
					return err
				}
				fmt.Println(s)
			}
		}
		w.close()
	}
	return nil
}
