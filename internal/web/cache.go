package web

import (
	"sync"

	"github.com/kms-auditor/kms-auditor/audit"
)

// cache keeps what was rendered of the last report.
type cache[T any] struct {
	mu    sync.Mutex
	of    *audit.Report
	turns int // how many reports were rendered
	value T
}

// get renders the report, unless it was the last one, and returns the number of it.
func (c *cache[T]) get(r *audit.Report, render func(*audit.Report) (T, error)) (value T, turn int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.turns == 0 || c.of != r {
		if value, err = render(r); err != nil {
			return value, 0, err
		}
		c.of, c.turns, c.value = r, c.turns+1, value
	}
	return c.value, c.turns, nil
}
