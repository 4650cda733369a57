// Command fakeapi serves the fake Phala Cloud API.
//
// Its first line on stdout has the address. Data and faults can be changed over HTTP while it serves: PUT /control/chain,
// /control/kms and /control/fault with the JSON of fakeapi.Chain, a list of fakeapi.KMS and fakeapi.Fault, and DELETE
// /control/fault. GET /control/requests and /control/reserved return the number of API requests and of reserved app ids so far.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kms-auditor/kms-auditor/internal/testenv/fakeapi"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fakeapi:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("fakeapi", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:0", "`address` to listen on")
	world := flags.String("world", "", "`file` with one chain, or a list of chains, in the API's JSON")
	key := flags.String("key", "", "X-API-Key that requests must carry; empty: none")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	chains, err := load(*world)
	if err != nil {
		return err
	}
	api := fakeapi.New(chains...)
	api.RequireKey(*key)
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", *listen, err)
	}
	fmt.Fprintf(stdout, "listening on http://%s/api/v1\n", l.Addr())

	srv := &http.Server{Handler: routes(api), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	api.Close()
	bounded, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if srv.Shutdown(bounded) != nil {
		_ = srv.Close() // cuts off remaining connections
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

func load(path string) ([]fakeapi.Chain, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the world: %w", err)
	}
	defer f.Close()
	return fakeapi.ReadWorld(f)
}
