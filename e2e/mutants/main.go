// Command mutants puts known bugs into the code, one at a time, and prints which test finds each.
//
// The bugs are rows of bugs.yaml. The source tree is not changed: the go command reads the changed file instead of the original
// (-overlay). Run it in the folder of go.mod. The exit code is 1 if a bug survives or does not compile, and 2 if the table is
// wrong or tests fail without a bug.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("mutants", flag.ContinueOnError)
	flags.SetOutput(stderr)
	table := flags.String("bugs", "e2e/mutants/bugs.yaml", "the `file` with the bugs")
	only := flags.String("only", "", "only the bugs whose sentence `matches`")
	check := flags.Bool("check", false, "only see whether each bug can be put in")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	chosen, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(stderr, "reading -only:", err)
		return 2
	}
	bugs, err := load(*table, chosen)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if *check {
		fmt.Fprintf(stdout, "%d bugs can be put in\n", len(bugs))
		return 0
	}
	survived, err := hunt(ctx, bugs, stdout)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if survived > 0 {
		return 1
	}
	return 0
}

// hunt prints a row for each bug, and returns the number of bugs that no test finds.
func hunt(ctx context.Context, bugs []bug, stdout io.Writer) (survived int, err error) {
	t := tests{passed: map[string]bool{}}
	if err := t.withoutBugs(ctx, bugs); err != nil {
		return 0, err
	}
	fmt.Fprint(stdout, "| # | bug | where | found by | s |\n|---|---|---|---|---|\n")
	for i, b := range bugs {
		start := time.Now()
		by, err := t.find(ctx, b)
		switch {
		case ctx.Err() != nil:
			return survived, ctx.Err()
		case err != nil:
			survived++
			by = "**error**: " + strings.Join(strings.Fields(err.Error()), " ")
		case by == "":
			survived++
			by = "**nothing**"
		}
		fmt.Fprintf(stdout, "| %d | %s | %s | %s | %.0f |\n", i+1, b.Bug, b.File, by, time.Since(start).Seconds())
	}
	fmt.Fprintf(stdout, "\n%d bugs, %d found\n", len(bugs), len(bugs)-survived)
	return survived, nil
}
