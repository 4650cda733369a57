package matrix_test

import (
	"github.com/kms-auditor/kms-auditor/internal/faults"
	"github.com/kms-auditor/kms-auditor/internal/testchain"
)

// The size of a world: contracts of a chain, and ids of each list of a contract. The API lists the first ids of each,
// the others are known on chain only.
const (
	contracts = 2
	ids       = 4
	listed    = 3
)

// The lists, as the model counts them.
const (
	device = iota
	image
)

// plan is all that a case is made of. What happens follows from it, but for time.
type plan struct {
	config
	Past   [][]op // the blocks before the first audit
	Steps  []step // audits, one after the other
	Faults []fault
}

// step is one audit: what changes before it, and what between its two passes.
type step struct {
	Before, Between change
}

// change is what happens to the chain and to the API.
type change struct {
	Undo   int    // blocks that a reorganisation takes back first
	Blocks [][]op // the blocks that follow
	Edits  []edit // by which the API differs from the newest block
	Still  bool   // the API says what it said before
}

// op is one thing that an owner does to a contract. What a contract of the model's state refuses is left out.
type op struct {
	What     string
	Contract int
	List, ID int
}

// The operations. Those without an event of a list need the Backdoor.
const (
	add      = "add"
	remove   = "remove"
	sneakIn  = "sneak in"
	sneakOut = "sneak out"
	app      = "register app"
	mr       = "add measurement"
	info     = "set info"
	handOver = "hand over"
	toPlain  = testchain.Plain
	toDoor   = testchain.Backdoor
	toMoved  = testchain.Moved
)

// edit is one way in which the API differs from the chain. Entry edits name an id, the others a contract.
type edit struct {
	What     string
	Contract int
	List, ID int
}

// The edits.
const (
	flip       = "flip"       // allowed for denied
	null       = "null"       // no answer
	drop       = "drop"       // the id is not listed
	twice      = "twice"      // two rows that agree
	contradict = "contradict" // two rows that do not
	malformed  = "malformed"  // the id lacks a digit
	noHash     = "no hash"    // the id is null; of images only
	unlist     = "unlist"     // the contract is not listed
	split      = "split"      // its images are in a second row
	elsewhere  = "elsewhere"  // its row is of another chain
	stranger   = "stranger"   // one more contract is listed, without code
	abroad     = "abroad"     // the answer is about another chain
	hush       = "hush"       // the API's list of KMS does not name the contract
)

// config is what the operator says.
type config struct {
	Block     string // policies, separated by a space
	Verify    string
	Providers int
	Agreement int
	Pending   bool
	Named     string // which contracts are configured: "", "first", "all", "more"
	Baseline  string // "", "none", "as is", "other owner", "other implementation"
	Cross     bool   // the API's list of KMS is asked for too
	Eager     bool
	Devices   []int // wanted of the first contract by policy; nil: nothing is said
	Images    []int
	Owner     string // wanted
	Impl      string
	Accepts   []accept
}

// accept is a difference of a contract that the operator lives with; the contract as a whole where ID is negative.
type accept struct {
	Kind     string
	Contract int
	List, ID int
	Expired  bool
}

// fault is one thing that goes wrong. At is a provider, or api.
type fault struct {
	Name string
	At   int
	When faults.When
	Seed uint64
}

const api = -1
