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
	"regexp"
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
	if text == "none" {
		return nil
	}
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
	sizes := list[size]{distinct(byEntries, byContracts, byChains, []size{few, large}), parseSize}
	daemons := list[size]{watched, parseSize}
	delays := list[time.Duration]{[]time.Duration{0, 50 * time.Millisecond, 200 * time.Millisecond}, time.ParseDuration}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.Var(&sizes, "size", "worlds to audit once: CONTRACTSxENTRIES or CONTRACTSxENTRIES@CHAINS, with commas between, or none")
	fs.Var(&daemons, "daemon", "worlds to audit again and again, as in -size")
	fs.Var(&delays, "delay", "of each request to API and provider, with commas between")
	runs := fs.Int("runs", 3, "runs of each contender")
	who := fs.String("contender", "", "only the contenders whose names match (REGEXP)")
	all := fs.Bool("all", false, "all sizes, and nothing calculated: takes many hours")
	keep := fs.String("keep", "", "folder where chains are kept, so that they are made only once")
	kind := fs.String("profile", "", "cpu or heap: writes profiles of kms-auditor and measures nothing else; -runs and -delay apply")
	name := fs.String("case", "1x1000/proven", "what to profile: SIZE/proven, /searched or /believed for --once, SIZE/daemon for unchanged audits, or SIZE/first for those before them")
	if err := fs.Parse(args); err != nil {
		return err
	}
	pattern, err := regexp.Compile(*who)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kms-auditor-bench-bin-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *kind != "" {
		return profile(ctx, dir, *kind, *name, *keep, delays.values[0], *runs)
	}
	p, err := newPrograms(dir)
	if err != nil {
		return err
	}
	p.keep = *keep
	if err := p.addOthers(); err != nil {
		return err
	}
	if *all {
		sizes.values = product()
	}
	began := time.Now()
	r, err := p.carryOut(ctx, plan{sizes.values, daemons.values, delays.values, *runs, pattern, *all})
	r.print(os.Stdout, sizes.values, delays.values)
	progress("that took %s", time.Since(began).Round(time.Second))
	return err
}
