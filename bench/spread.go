package main

import (
	"cmp"
	"slices"
)

// spread is the median of some figures, and their limits.
type spread[T cmp.Ordered] struct{ median, least, most T }

func spreadOf[T cmp.Ordered](costs []cost, figure func(cost) T) spread[T] {
	all := make([]T, len(costs))
	for i, c := range costs {
		all[i] = figure(c)
	}
	return spread[T]{medianOf(all), slices.Min(all), slices.Max(all)}
}

func medianOf[T cmp.Ordered](figures []T) T { return quantileOf(figures, 0.5) }

// quantileOf is the smallest of the figures that is not below the part q of them.
func quantileOf[T cmp.Ordered](figures []T, q float64) T {
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
