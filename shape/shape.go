// Package shape gives records the shapes that SIEMs read without an ingest pipeline: the Elastic Common Schema,
// Detection Findings of OCSF, and lines of CEF. Each shape has one table for each API (ecs_siem.go, ecs_graph.go,
// ...), from the fields of an alert to those of the shape; docs/shapes.md is generated from them. Whoever wants
// another field changes a line there.
//
// A table is compiled once. An encoder goes over an alert's native record once: each field that has rows puts what it
// becomes into the slots of their targets, as MessagePack; the rest is noted as it stands. Then the slots are written
// in the order of the table. So the JSON is read once, nothing is decoded into maps, and no row costs an allocation.
package shape

import (
	"sync"

	"fluent-bit-defender/record"
)

//go:generate go test -count=1 -run ^TestShapesPageIsUpToDate$ . -update

// The formats.
const (
	ECS  = "ecs"
	OCSF = "ocsf"
	CEF  = "cef"
)

// Formats are all of them.
var Formats = []string{ECS, OCSF, CEF}

// The APIs, as package conf calls them.
const (
	siem  = "siem"
	graph = "graph"
)

// shape is one table with what its records have of their own.
type shape struct {
	format, api string
	table       table
	encode      func(e *encoder, dst []byte) ([]byte, int)
	raw         record.EncodeRaw

	program func() *program
}

var shapes = func() []*shape {
	all := []*shape{
		{format: ECS, api: siem, table: ecsSIEM, encode: tree, raw: ecsRaw},
		{format: ECS, api: graph, table: ecsGraph, encode: tree, raw: ecsRaw},
		{format: OCSF, api: siem, table: ocsfSIEM, encode: tree, raw: ocsfRaw},
		{format: OCSF, api: graph, table: ocsfGraph, encode: tree, raw: ocsfRaw},
		{format: CEF, api: siem, table: cefSIEM, raw: cefRaw},
		{format: CEF, api: graph, table: cefGraph, raw: cefRaw},
	}
	for _, s := range all {
		s.program = sync.OnceValue(func() *program {
			p := compile(s.table)
			if s.format == CEF {
				s.encode = newCEFLayout(p, s.api).line
			}
			return p
		})
	}
	return all
}()

func shapeOf(format, api string) *shape {
	for _, s := range shapes {
		if s.format == format && s.api == api {
			return s
		}
	}
	return nil
}

// Encoders returns what record.Options needs for the alerts of an API ("siem" or "graph") in a format; keepNative
// adds the whole native alert. Each Reader needs encoders of its own. They are nil for a format that is none of
// Formats: native records need none.
func Encoders(format, api string, keepNative bool) (record.Encode, record.EncodeRaw) {
	s := shapeOf(format, api)
	if s == nil {
		return nil, nil
	}
	e := newEncoder(s.program(), keepNative)
	return func(dst []byte, a *record.Alert) ([]byte, int) {
		e.fill(a)
		dst, n := s.encode(e, dst)
		e.shrink()
		return dst, n
	}, s.raw
}

// tree writes the targets as the objects that their paths say.
func tree(e *encoder, dst []byte) ([]byte, int) { return e.fields(dst, e.nodes) }
