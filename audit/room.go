package audit

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/kms-auditor/kms-auditor/kmsapi"
)

// Chains are audited side by side, but the large ones take turns, as many at once as there are processors for: more
// would need memory and save no time.
const (
	large    = 4_000           // rows of a claim
	perCPU   = 16_000          // rows of large claims at once
	patience = 5 * time.Second // with a chain that keeps others waiting, as its provider may be slow
)

func newRoom() *semaphore.Weighted {
	return semaphore.NewWeighted(int64(perCPU * max(2, runtime.GOMAXPROCS(0))))
}

// turn is that of one chain.
type turn struct {
	room  *semaphore.Weighted
	asked bool
	rows  int64 // that there is room for
}

// take waits until there is room for a claim, or patience ends.
func (t *turn) take(ctx context.Context, detail *kmsapi.OnChainDetail) {
	rows := 0
	for _, c := range detail.Contracts {
		rows += len(c.Devices) + len(c.OSImages)
	}
	if t.asked || rows < large {
		return
	}
	t.asked = true
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	n := int64(min(rows, perCPU))
	if t.room.Acquire(ctx, n) == nil {
		t.rows = n
	}
}

// end makes room for others.
func (t *turn) end() {
	t.room.Release(t.rows)
	t.asked, t.rows = false, 0
}
