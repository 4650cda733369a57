// Command demo shows kms-auditor at work without a network: an in-process EVM has a KMS contract, a local API makes claims about
// it, and the auditor compares them.
//
// The data is that of Base in 2026: the API offers OS image 0.5.9, which the contract refuses.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/kms-auditor/kms-auditor/audit"
	"github.com/kms-auditor/kms-auditor/internal/daemon"
	"github.com/kms-auditor/kms-auditor/internal/render"
	"github.com/kms-auditor/kms-auditor/internal/web"
	"github.com/kms-auditor/kms-auditor/metrics"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	once := flags.Bool("once", false, "print the first report and exit with its code: 0 consistent, 1 drift, 3 unknown")
	policy := flags.Bool("policy", false, "show how to audit a KMS without an API by a policy: snapshot, review, commit, audit")
	listen := flags.String("listen", "127.0.0.1:10726", "address to serve metrics and the report on")
	pace := flags.Duration("pace", 6*time.Second, "time between two changes; audits run three times as often, at most once a second")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *policy {
		if err := policyRound(ctx, stdout); err != nil {
			fmt.Fprintln(stderr, "demo:", err)
			return 1
		}
		return 0
	}
	verdict, err := demo(ctx, *once, *listen, *pace, stdout)
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 1
	}
	return map[audit.Verdict]int{audit.Consistent: 0, audit.Drift: 1, audit.Unknown: 3}[verdict]
}

func demo(ctx context.Context, once bool, listen string, pace time.Duration, stdout io.Writer) (audit.Verdict, error) {
	if pace < time.Second {
		return audit.Unknown, fmt.Errorf("--pace %s is less than a second", pace)
	}
	w, err := newWorld(pace)
	if err != nil {
		return audit.Unknown, fmt.Errorf("starting the chain and the API: %w", err)
	}
	defer w.close()
	story := newStory(stdout)
	a, err := daemon.New(w.config(), daemon.Options{
		Build:    metrics.Build{Version: "demo", Revision: "demo", GoVersion: runtime.Version()},
		Log:      zap.NewNop(),
		Reported: story.audited,
	})
	if err != nil {
		return audit.Unknown, err
	}
	defer a.Close()

	report := a.Once(ctx)
	if err := render.Text(stdout, report, render.OptionsFor(stdout)); err != nil || once {
		return report.Verdict, err
	}
	listeners, err := web.Listen([]string{listen})
	if err != nil {
		return audit.Unknown, fmt.Errorf("%w (choose another address with --listen)", err)
	}
	return audit.Consistent, serve(ctx, a, w, story, listeners)
}

// serve runs the daemon while the world changes, until ctx ends.
func serve(ctx context.Context, a *daemon.Daemon, w *world, s *story, listeners []net.Listener) error {
	s.line("demo", "serving http://%s/metrics and /api/v1/report; something changes every %s; press Ctrl-C to stop", listeners[0].Addr(), w.pace)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Serve(ctx, listeners) })
	g.Go(func() error { return w.turn(ctx, s) })
	return g.Wait()
}
