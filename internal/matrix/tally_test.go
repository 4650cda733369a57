package matrix_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kms-auditor/kms-auditor/audit"
)

// workers draw side by side, each on a chain of its own: much of the time, a case waits.
const workers = 8

// TestMain draws 500 cases where the command line does not say how many (-rapid.checks), and shares them out.
func TestMain(m *testing.M) {
	checks := flag.Lookup("rapid.checks").Value
	must(checks.Set("500"))
	flag.Parse()
	n, err := strconv.Atoi(checks.String())
	must(err)
	must(checks.Set(strconv.Itoa((n + workers - 1) / workers)))
	os.Exit(m.Run())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// tally counts what was drawn, and what was said.
type tally struct {
	mu            sync.Mutex
	cases, audits int
	without, with verdicts            // by whether faults were drawn
	faults        map[string]verdicts // by the kind of a fault
	faulty        map[int]int         // cases by the number of their faults
	began         time.Time
	cpu           time.Duration
}

// verdicts counts targets. lost are those of which the truth could be known, and unknown was said.
type verdicts struct{ cases, consistent, drift, unknown, lost int }

func newTally() *tally {
	return &tally{faults: map[string]verdicts{}, faulty: map[int]int{}, began: time.Now(), cpu: used()}
}

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (c *tally) begin(p plan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cases++
	c.faulty[len(p.Faults)]++
	if len(p.Faults) == 0 {
		c.without.cases++
	} else {
		c.with.cases++
	}
	for _, name := range kinds(p) {
		v := c.faults[name]
		v.cases++
		c.faults[name] = v
	}
}

func kinds(p plan) []string {
	var out []string
	for _, f := range p.Faults {
		out = append(out, f.Name)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *tally) audit(g *rig, r *audit.Report, known baselines) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.audits++
	now := g.look(known)
	for _, at := range now.targets() {
		verdict, lost := unknown, 0
		if t := targetOf(r.Chains[0], at); t != nil {
			verdict = t.Verdict.String()
		}
		if verdict == unknown && now.judge(at).verdict() != unknown {
			lost = 1
		}
		if len(g.Faults) == 0 {
			c.without.add(verdict, lost)
		} else {
			c.with.add(verdict, lost)
		}
		for _, name := range kinds(g.plan) {
			v := c.faults[name]
			v.add(verdict, lost)
			c.faults[name] = v
		}
	}
}

func (v *verdicts) add(verdict string, lost int) {
	v.lost += lost
	switch verdict {
	case consistent:
		v.consistent++
	case drift:
		v.drift++
	default:
		v.unknown++
	}
}

func (c *tally) String() string {
	var b strings.Builder
	took := time.Since(c.began)
	fmt.Fprintf(&b, "%d cases, %d audits, %s of processor time, %s in all\n", c.cases, c.audits, (used() - c.cpu).Round(time.Second), took.Round(time.Second))
	fmt.Fprintf(&b, "cases by the number of their faults:")
	for _, n := range slices.Sorted(maps.Keys(c.faulty)) {
		fmt.Fprintf(&b, " %d: %d;", n, c.faulty[n])
	}
	b.WriteString("\n\n")
	b.WriteString("| fault | cases | consistent | drift | unknown | unknown, though the truth could be known |\n|---|---:|---:|---:|---:|---:|\n")
	row := func(name string, v verdicts) {
		share := 100 * v.lost / max(v.consistent+v.drift+v.unknown, 1)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d (%d %%) |\n", name, v.cases, v.consistent, v.drift, v.unknown, v.lost, share)
	}
	row("none", c.without)
	row("one to three", c.with)
	for _, name := range slices.Sorted(maps.Keys(c.faults)) {
		row(name, c.faults[name])
	}
	return b.String()
}

func (g *rig) String() string { return fmt.Sprintf("%#v", g.plan) }

func encodeIndent(r *audit.Report) string {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(b)
}
