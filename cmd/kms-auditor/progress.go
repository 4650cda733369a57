package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/kms-auditor/kms-auditor/internal/render"
)

// waitingEvery is the interval of log lines about what the audit waits for, if stderr is not a terminal.
var waitingEvery = 10 * time.Second

// waiting names a chain and what it waits for.
type waiting struct {
	chain, what string
}

// progress shows what an audit waits for, and for how long. On a terminal it redraws one line; elsewhere it logs a line every ten
// seconds.
type progress struct {
	stderr io.Writer
	width  int // of the terminal; 0: no terminal
	log    *zap.Logger
	began  time.Time
	done   chan struct{}

	mu    sync.Mutex
	chain []waiting // the newest last
}

// startProgress returns show, which sets what a chain waits for, and stop, which ends the progress.
func startProgress(stderr io.Writer, log *zap.Logger) (show func(chain, what string), stop func()) {
	p := &progress{stderr: stderr, width: render.TerminalWidth(stderr), log: log, began: time.Now(), done: make(chan struct{})}
	every := waitingEvery
	if p.width > 0 {
		every = time.Second
	}
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.tell()
			case <-p.done:
				return
			}
		}
	})
	return p.show, sync.OnceFunc(func() {
		close(p.done)
		running.Wait()
		if p.width > 0 {
			fmt.Fprint(stderr, "\r\x1b[K")
		}
	})
}

// show takes what a chain waits for; "" ends its part.
func (p *progress) show(chain, what string) {
	p.mu.Lock()
	p.chain = slices.DeleteFunc(p.chain, func(w waiting) bool { return w.chain == chain })
	if what != "" {
		p.chain = append(p.chain, waiting{chain, what})
	}
	p.mu.Unlock()
	if p.width > 0 {
		p.tell()
	}
}

func (p *progress) tell() {
	p.mu.Lock()
	defer p.mu.Unlock()
	elapsed := time.Since(p.began).Round(time.Second)
	var all []string
	for _, w := range p.chain {
		all = append(all, w.chain+": "+w.what)
	}
	if p.width == 0 {
		p.log.Info("waiting", zap.Strings("for", all), zap.Float64("elapsed_seconds", elapsed.Seconds()))
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	line := []rune(fmt.Sprintf("%s  %s …", elapsed, strings.Join(all, "; ")))
	fmt.Fprint(p.stderr, "\r\x1b[K"+string(line[:min(len(line), p.width-1)]))
}
