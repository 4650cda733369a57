// Package audit judges what was seen of dstack KMS contracts.
//
// Data goes one way. An Observation is what one look at one chain saw: a block, what the API claims, and a Reading of each
// contract. Judge compares it with the Intent (what the operator wants) and the Prior (what earlier audits left open) and
// returns a chain's part of the Report. Prior.After is what the next audit has to remember. Nothing here asks anybody, reads
// a clock, or depends on the order in which answers came.
// Every rule of a verdict is in this package, and nowhere else. What a change of control or of code is, it asks the packages
// control and footprint, which are as pure.
package audit

// Rules is the version of the rules by which Judge decides. Raise it with every change after which Judge makes another
// verdict, finding or state of an entry of the same observations; a change of wording needs none. Evidence names it, so that
// what older rules judged otherwise is not taken for tampering.
const Rules = 6
