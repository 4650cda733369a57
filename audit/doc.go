// Package audit judges observations of dstack KMS contracts.
//
// Data flows one way. An Observation is what one look at one chain saw: a block, the API's claim, and a Reading of each
// contract. Judge compares it with the Intent (what the operator wants) and the Prior (what earlier audits left open). It
// returns the chain's part of the Report, and the Prior of the next audit. The package does no I/O, reads no clock, and does
// not depend on the order in which answers arrived.
//
// Every rule of a verdict is in this package. The packages control and footprint, which are pure too, define what counts as a
// change of control or of code.
package audit

// Rules is the version of Judge's rules. Increment it with every change that makes Judge return another verdict, finding or
// entry state for the same observations; a change of wording does not count. Evidence records it, so that a report made by
// older rules is not mistaken for tampering.
const Rules = 6
