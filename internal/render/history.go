package render

import (
	"bytes"
	"fmt"
	"time"
)

// History is the timeline of the lists, as far as events were read. It is what history -o json writes.
type History struct {
	Scanned []Scanned `json:"scanned"`
	Events  []Event   `json:"events"` // the oldest first

	Wide bool `json:"-"` // for people: ids and hashes whole
}

// Scanned is how far the events of a contract were read.
type Scanned struct {
	Chain    string `json:"chain"`
	ChainID  uint64 `json:"chain_id"`
	Contract string `json:"contract"`
	From     uint64 `json:"from_block"`
	To       uint64 `json:"to_block"`
}

// Event is one change of a list. It comes from a log, and is not proven; only that the operator forgot a contract comes from
// the state, and has neither block nor transaction.
type Event struct {
	Time     *time.Time `json:"time,omitempty"` // of the block; nil: not known
	Chain    string     `json:"chain"`          // its name in the configuration
	ChainID  uint64     `json:"chain_id"`
	Block    uint64     `json:"block,omitempty"`
	LogIndex uint       `json:"log_index"`
	Contract string     `json:"contract"`
	List     string     `json:"list"`
	Change   string     `json:"change"` // added, removed or forgotten
	ID       string     `json:"id"`     // an address where the list is app
	Name     string     `json:"name,omitempty"`
	Version  string     `json:"version,omitempty"`
	Actor    string     `json:"actor,omitempty"`
	Tx       string     `json:"tx,omitempty"`
}

func (h History) WriteText(b *bytes.Buffer) {
	t := text{b, TextOptions{Wide: h.Wide}}
	g := grid{{"TIME", "CHAIN", "BLOCK", "CONTRACT", "LIST", "CHANGE", "ID", "NAME", "ACTOR", "TRANSACTION"}}
	for _, e := range h.Events {
		block := ""
		if e.Block > 0 {
			block = fmt.Sprint(e.Block)
		}
		g.add(when(e.Time), e.Chain, block, t.id(e.Contract), e.List, e.Change, t.id(e.ID), t.name(named(e.Name, e.Version)), t.id(e.Actor), t.id(e.Tx))
	}
	if len(h.Events) == 0 {
		t.printf("no change of the lists is remembered\n")
	} else {
		g.write(b, "")
	}
	for _, s := range h.Scanned {
		t.printf("%s %s: events of blocks %d to %d were read\n", Plain(s.Chain), Plain(s.Contract), s.From, s.To)
	}
	if len(h.Scanned) == 0 {
		t.printf("the events of no contract were read\n")
	}
}

// when gives a time for people; nil is nothing.
func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
