//go:build !race

package shape

// thousand is how many generated alerts of each API are held against the schemas.
const thousand = 1000
