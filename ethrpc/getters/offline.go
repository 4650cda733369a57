package getters

import (
	"context"
	"errors"
	"fmt"

	"github.com/kms-auditor/kms-auditor/ethrpc/kms"
	"github.com/kms-auditor/kms-auditor/ethrpc/proof"
)

// ErrLacksState reports that a Witness does not prove all that a call reads.
var ErrLacksState = errors.New("the evidence lacks state")

// Offline runs everything once, over a state that cannot grow.
func (c *Run) Offline(ctx context.Context) error {
	addr := c.Query.Contract
	if a, known := c.State.Account(addr); !known {
		return fmt.Errorf("the evidence does not prove the account %s", addr)
	} else if a != nil {
		for _, key := range c.Query.NeededSlots() { // Value proves a slot from the witness
			if _, known := c.State.Value(proof.Slot{Account: addr, Key: key}); !known && key == kms.ImplementationSlot {
				return fmt.Errorf("the evidence does not prove slot %s of %s", key, addr)
			}
		}
	}
	_, left := c.round(ctx, true)
	for c.jobs, _ = c.appJobs(); len(c.jobs) > 0; c.jobs, _ = c.appJobs() {
		c.round(ctx, true) // a job that lacks state explains nothing
	}
	if c.jobs = c.olderJobs(); len(c.jobs) > 0 {
		_, more := c.round(ctx, true)
		left = append(left, more...)
	}
	for c.jobs = c.implementationJobs(); len(c.jobs) > 0; c.jobs = c.implementationJobs() {
		c.round(ctx, true)
	}
	for c.jobs = c.foreignJobs(); len(c.jobs) > 0; c.jobs = c.foreignJobs() {
		for _, s := range c.needed(proof.Missing{}).Slots {
			c.State.Value(s)
		}
		_, more := c.round(ctx, true)
		left = append(left, more...)
	}
	if err := c.costs(); err != nil {
		return err
	}
	for _, j := range left {
		switch {
		case c.partial && len(j.Data) == InputLen:
			c.Reading.Partial = true
		case j.Getter == "":
			c.failJob(j, ErrLacksState)
		default:
			return fmt.Errorf("%w that the code of %s reads", ErrLacksState, addr)
		}
	}
	return c.Fault
}
