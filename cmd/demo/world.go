package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/kms-auditor/kms-auditor/ethrpc"
	"github.com/kms-auditor/kms-auditor/internal/config"
	"github.com/kms-auditor/kms-auditor/internal/sanitize"
	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
	"github.com/kms-auditor/kms-auditor/internal/testenv/testchain"
)

// claims is the API's first claim.
//
//go:embed world.json
var claims []byte

// The ids that change. At first the API offers image 0.5.9, which the contract refuses.
const (
	image059 = "bd369a8c2f9edb2b52dad48ac8e0b32dde5f1337c423a506b48d07403a7d8033"
	image053 = "2d24d302cc8686d6a0ece71a6afef55c506bc8591e3bcc1ec3eb5323d77582c4"
	device   = "05c73429bc3868cca111bcf158ad59167b1f0c0d2dd8e0b98839d59e5cf0222d"
)

// world is a chain with a KMS contract, and an API that makes claims about it.
type world struct {
	chain *testchain.Chain
	kms   *testchain.KMS
	api   *fakeapi.Server
	http  *http.Server
	url   string
	pace  time.Duration // between two changes
}

func newWorld(pace time.Duration) (*world, error) {
	chains, err := fakeapi.ReadWorld(bytes.NewReader(claims))
	if err != nil {
		return nil, err
	}
	base := chains[0]
	preload, err := onChain(base.Contracts[0])
	if err != nil {
		return nil, err
	}
	w := &world{api: fakeapi.New(base), pace: pace}
	if w.chain, err = testchain.Start(testchain.Options{ChainID: base.ChainID, Preload: []testchain.Preload{preload}}); err != nil {
		return nil, err
	}
	w.chain.Commit()
	w.kms = w.chain.KMS(preload.Address)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, w.chain.Close())
	}
	w.url = "http://" + l.Addr().String() + "/api/v1"
	w.http = &http.Server{Handler: w.api, ReadHeaderTimeout: time.Second}
	go w.http.Serve(l) // until close
	return w, nil
}

func (w *world) close() {
	w.api.Close()
	w.http.Close()
	w.chain.Close()
}

// onChain returns a contract that matches the claim, except that it refuses image 0.5.9.
func onChain(c fakeapi.Contract) (testchain.Preload, error) {
	address, err := sanitize.ParseAddress(c.Address)
	p := testchain.Preload{Address: address}
	add := func(list *[]common.Hash, id string, allowed *bool) {
		h, e := sanitize.ParseID(id)
		err = errors.Join(err, e)
		if allowed != nil && *allowed && id != image059 {
			*list = append(*list, h)
		}
	}
	for _, d := range c.Devices {
		add(&p.Devices, d.ID, d.Allowed)
	}
	for _, i := range c.OSImages {
		if i.Hash != nil {
			add(&p.Images, *i.Hash, i.Allowed)
		}
	}
	return p, err
}

func (w *world) config() *config.Config {
	cfg := config.Default()
	cfg.API.BaseURL = w.url
	cfg.ConfirmDelay = 500 * time.Millisecond
	every := "@every " + max(w.pace/3, time.Second).Truncate(time.Second).String()
	schedule, err := config.ParseSchedule(every, time.UTC)
	if err != nil {
		panic(err)
	}
	cfg.Schedule, cfg.Cron = every, schedule
	cfg.Chains = []config.Chain{{
		Name:      "base",
		ChainID:   8453,
		Block:     []ethrpc.BlockTag{ethrpc.Latest},
		BatchSize: 100,
		Providers: []ethrpc.Provider{{Name: "in-process", URL: sanitize.NewSecret(w.chain.URL())}},
	}}
	return cfg
}

// step is one change. tell describes it in one line.
type step struct {
	tell   string
	change func(context.Context, *world) error
}

var steps = []step{
	{"the API corrects its claim: image 0.5.9 is refused", says(image059, false)},
	{"the contract's owner allows device 0x05c7…22d; the API still says refused", func(ctx context.Context, w *world) error {
		return w.kms.AllowDevice(ctx, mustID(device))
	}},
	{"the API follows: device 0x05c7…22d is allowed", says(device, true)},
	{"the contract's owner revokes image 0.5.3; the API still says allowed", func(ctx context.Context, w *world) error {
		return w.kms.RemoveImage(ctx, mustID(image053))
	}},
	{"the API follows: image 0.5.3 is refused", says(image053, false)},
	{"the API fails: it answers every request with status 500", func(_ context.Context, w *world) error {
		w.api.Fail(fakeapi.Fault{Name: "status", Status: http.StatusInternalServerError})
		return nil
	}},
	{"the API is back", func(_ context.Context, w *world) error { w.api.ClearFault(); return nil }},
	{"back to the start: the API offers image 0.5.9, the contract refuses it", func(ctx context.Context, w *world) error {
		err := errors.Join(
			w.kms.RemoveDevice(ctx, mustID(device)), w.kms.AllowImage(ctx, mustID(image053)),
			says(device, false)(ctx, w), says(image053, true)(ctx, w), says(image059, true)(ctx, w))
		return err
	}},
}

func mustID(s string) common.Hash {
	id, err := sanitize.ParseID(s)
	if err != nil {
		panic(err)
	}
	return id
}

// says changes the API's claim about an id.
func says(id string, allowed bool) func(context.Context, *world) error {
	return func(_ context.Context, w *world) error {
		w.api.Update("base", func(c *fakeapi.Chain) {
			for i := range c.Contracts[0].Devices {
				if d := &c.Contracts[0].Devices[i]; d.ID == id {
					d.Allowed = &allowed
				}
			}
			for i := range c.Contracts[0].OSImages {
				if o := &c.Contracts[0].OSImages[i]; o.Hash != nil && *o.Hash == id {
					o.Allowed = &allowed
				}
			}
		})
		return nil
	}
}

// turn runs the steps over and over until ctx ends.
func (w *world) turn(ctx context.Context, s *story) error {
	tick := time.NewTicker(w.pace)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % len(steps) {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		s.line("world", "%s", steps[i].tell)
		if err := steps[i].change(ctx, w); err != nil && ctx.Err() == nil {
			return fmt.Errorf("changing the world: %w", err)
		}
	}
}
