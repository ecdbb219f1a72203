//go:build race

package shape

// thousand is less under the race detector: make test runs the tests without it as well.
const thousand = 100
