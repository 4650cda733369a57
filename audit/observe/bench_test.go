package observe_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/audit/observe"
	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/events"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/state"
	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// BenchmarkAudit is one audit as the daemon makes it, everything proven and all events read. Chain and API run in a
// process of their own, so that time on the CPU and memory are the auditor's alone.
func BenchmarkAudit(b *testing.B) {
	observe.AnnotateAgain(b, 0)
	for _, entries := range []int{10, 1000, 10_000} {
		world := startWorld(b, entries, 0)
		benchmarkAudits(b, fmt.Sprintf("entries=%d", entries), world, entries, "/change")
	}
}

var benchApps = flag.Int("bench-apps", 20_000, "registered apps of BenchmarkManyApps")

// BenchmarkManyApps is the same for a contract with 10 entries and many registered apps.
func BenchmarkManyApps(b *testing.B) {
	observe.AnnotateAgain(b, 0)
	world := startWorld(b, 10, *benchApps)
	benchmarkAudits(b, fmt.Sprintf("apps=%d", *benchApps), world, 10, "/register")
}

// benchmarkAudits measures a first audit, one that finds nothing changed, and one after a change that the world makes.
func benchmarkAudits(b *testing.B, name, world string, entries int, change string) {
	b.Run(name+"/first", func(b *testing.B) {
		m := meter{world, map[string][]float64{}}
		for b.Loop() {
			b.StopTimer()
			a := newBenched(b, world)
			m.measure(b, a, entries)
			a.close()
			b.StartTimer()
		}
		m.report(b)
	})
	later := func(name string, prepare func(*testing.B)) {
		b.Run(name, func(b *testing.B) {
			m := meter{world, map[string][]float64{}}
			a := newBenched(b, world)
			defer a.close()
			a.settle(b, world)
			for b.Loop() {
				b.StopTimer()
				prepare(b)
				m.measure(b, a, entries)
				b.StartTimer()
			}
			m.report(b)
		})
	}
	later(name+"/unchanged", func(*testing.B) {})
	later(name+"/one-change", func(b *testing.B) { get(b, world+change) })
}

// benched is an auditor with its state between audits.
type benched struct {
	*observe.Auditor
	api   *kmsapi.Client
	chain *ethrpc.Client
	prior map[string]audit.Prior
}

func newBenched(b *testing.B, world string) *benched {
	b.Helper()
	api, err := kmsapi.New(kmsapi.Options{BaseURL: world + "/api/v1", Version: "2026-06-23", Timeout: time.Minute})
	check(b, err)
	tags := []ethrpc.BlockTag{ethrpc.Latest}
	chain, err := ethrpc.New(ethrpc.Options{
		ChainID: chainID, Tags: tags, BatchSize: 100,
		Providers: []ethrpc.Provider{{Name: "node", URL: sanitize.NewSecret(world + "/rpc"), Timeout: time.Minute}},
	})
	check(b, err)
	known, err := state.Open("")
	check(b, err)
	return &benched{observe.New(observe.Options{Claims: api, Chains: []observe.Chain{{
		Intent: audit.Intent{Chain: "test", ChainID: chainID, Tags: []string{"latest"}, Events: true, Baselines: true},
		Tags:   tags, Reader: chain, Eager: true,
		// The chain has the state of its last blocks only, in which the deployment cannot be looked for.
		Events: events.New(events.Options{Chain: "test", Client: chain, State: known, From: map[common.Address]uint64{
			common.HexToAddress(get(b, world+"/contract")): 1,
		}}),
	}}}), api, chain, nil}
}

// audit audits once and keeps the state for the next audit.
func (a *benched) audit() *audit.Report {
	r := a.Audit(context.Background(), "bench", a.prior)
	a.prior = r.Next
	return r.Report
}

func (a *benched) close() {
	a.api.Close()
	a.chain.Close()
}

// settle audits until an audit asks for nothing but the block and the proofs: the senders of the list's transactions
// are asked for a few hundred an audit.
func (a *benched) settle(b *testing.B, world string) {
	b.Helper()
	for range 50 {
		before, _ := counts(b, world)
		a.audit()
		if after, _ := counts(b, world); after-before == 1 {
			return
		}
	}
	b.Fatal("after 50 audits, an audit still takes more than one round trip")
}

// meter notes what audits cost, each cost by its unit.
type meter struct {
	world string
	costs map[string][]float64
}

func (m *meter) note(unit string, cost float64) { m.costs[unit] = append(m.costs[unit], cost) }

func (m *meter) measure(b *testing.B, a *benched, entries int) {
	b.Helper()
	trips, bytes := counts(b, m.world)
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began, cpu := time.Now(), cpuTime(b)
	r := a.audit()
	m.note("cpu-ms", (cpuTime(b)-cpu).Seconds()*1e3)
	m.note("ms", time.Since(began).Seconds()*1e3)
	runtime.ReadMemStats(&after)
	m.note("allocs", float64(after.Mallocs-before.Mallocs))
	m.note("alloc-KiB", float64(after.TotalAlloc-before.TotalAlloc)/1024)
	tripsAfter, bytesAfter := counts(b, m.world)
	m.note("round-trips", float64(tripsAfter-trips))
	m.note("rpc-KiB", float64(bytesAfter-bytes)/1024)

	target := r.Chains[0].Targets[0]
	if r.Verdict != audit.Consistent || target.Counts.Match != entries || target.Assurance != audit.Proven || target.Completeness != audit.Complete {
		b.Fatalf("%s, %+v, %s, %s: %v", r.Verdict, target.Counts, target.Assurance, target.Completeness, r.Chains[0].Errors)
	}
	r, target = nil, audit.Target{}
	runtime.GC()
	runtime.ReadMemStats(&after)
	m.note("live-MiB", float64(after.HeapAlloc)/(1<<20))
	runtime.KeepAlive(a)
}

// report tells the medians.
func (m *meter) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // the clock also ran for the world
	for unit, costs := range m.costs {
		slices.Sort(costs)
		b.ReportMetric(costs[len(costs)/2], unit)
	}
}

// cpuTime is what this process has used, in user and in system mode.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counts are the requests to the node so far, and the bytes of their bodies and answers.
func counts(b *testing.B, world string) (trips, bytes int) {
	b.Helper()
	if _, err := fmt.Sscan(get(b, world+"/counts"), &trips, &bytes); err != nil {
		b.Fatal(err)
	}
	return trips, bytes
}

func get(b *testing.B, url string) string {
	b.Helper()
	resp, err := http.Get(url)
	check(b, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(b, err)
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return string(body)
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
