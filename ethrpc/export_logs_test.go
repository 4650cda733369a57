package ethrpc

// Suggested is the number of blocks that a provider's words suggest for the range from from to to.
var Suggested = suggested

// CountRequests counts the ranges, and those of them that are refused, that it takes to read blocks of a provider
// that takes at most limit of them at once.
func CountRequests(blocks, limit, step uint64) (all, refused int) {
	s := newRangeSizer(step)
	for blocks > 0 {
		n := min(s.blocks, blocks)
		all++
		if n > limit {
			refused++
			s.refused(n, 0)
			continue
		}
		s.accepted(n)
		blocks -= n
	}
	return all, refused
}
