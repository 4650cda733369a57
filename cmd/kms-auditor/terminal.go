package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// useColor follows no-color.org: a non-empty NO_COLOR means none.
func useColor(w io.Writer) bool {
	return isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// progress keeps one line on a terminal that says what is being waited for. On anything else it is silent.
type progress struct {
	w  io.Writer
	mu sync.Mutex
}

func newProgress(stderr io.Writer) *progress {
	if !isTerminal(stderr) {
		return &progress{}
	}
	return &progress{w: stderr}
}

const clearLine = "\r\x1b[K"

func (p *progress) show(chain, doing string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		fmt.Fprintf(p.w, "%s%s: %s …", clearLine, chain, doing)
	}
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		fmt.Fprint(p.w, clearLine)
		p.w = nil
	}
}
