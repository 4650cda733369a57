package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// steady is what a daemon's audits cost: the first one (with the start of the program), those that find nothing changed,
// and those that find one image changed.
type steady struct {
	size                      size
	delay                     time.Duration
	first, unchanged, changed []cost
	peak                      int64         // bytes
	bare                      time.Duration // a request each to API and provider at once, by a client that does nothing else
	web                       []page
}

// watch measures a daemon.
func (w *world) watch(ctx context.Context, delay time.Duration, runs int) (s steady, err error) {
	s = steady{size: w.size, delay: delay}
	w.delay(delay)
	defer w.delay(0)
	if s.bare, err = w.bare(ctx, runs); err != nil {
		return s, err
	}
	d, err := w.newDaemon(ctx)
	if err != nil {
		return s, err
	}
	defer d.end()
	first, err := d.consistent(ctx)
	if err != nil {
		return s, err
	}
	s.first = []cost{first}
	if err := d.settle(ctx); err != nil {
		return s, err
	}
	for range runs {
		spent, err := d.consistent(ctx)
		if err != nil {
			return s, err
		}
		s.unchanged = append(s.unchanged, spent)
	}
	if s.web, err = visits(ctx, d.url); err != nil {
		return s, err
	}
	d.skip()
	for range runs {
		spent, err := d.change(ctx)
		if err != nil {
			return s, err
		}
		s.changed = append(s.changed, spent)
	}
	s.peak, err = peakOf(d.cmd.Process.Pid)
	return s, err
}

// change changes an image, and returns the audit that reads it.
func (d *daemon) change(ctx context.Context) (spent cost, err error) {
	before, err := d.consistent(ctx) // there is most of a second until the next one
	if err != nil {
		return spent, err
	}
	if err := d.finalize(ctx); err != nil {
		return spent, err
	}
	for range 3 {
		if spent, err = d.consistent(ctx); err != nil || spent.rpc.requests > before.rpc.requests {
			return spent, err
		}
	}
	return spent, fmt.Errorf("auditing %s: the change of an image took no more requests than nothing did", d.size)
}

// bare measures the limit: what a client takes that asks API and provider for one thing at once, on warm connections.
func (w *world) bare(ctx context.Context, runs int) (time.Duration, error) {
	client := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	defer client.CloseIdleConnections()
	var took []time.Duration
	for range runs + 1 {
		began := time.Now()
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			_, err := fetch(ctx, client, w.rpc.URL, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}`), true)
			return err
		})
		for i := range w.size.chains {
			g.Go(func() error {
				_, err := fetch(ctx, client, w.api.URL+"/kms/on-chain/"+chainName(i), nil, true)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return 0, fmt.Errorf("asking API and provider: %w", err)
		}
		took = append(took, time.Since(began))
	}
	return medianOf(took[1:]), nil // without the one that connects
}
