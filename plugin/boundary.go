package main

import (
	"unsafe"

	"fluent-bit-defender/plugin/flb"

	"github.com/fluent/fluent-bit-go/input"
)

// callback hands the next batch of an instance to C, or nothing. The core reads -1 alone as an error.
func callback(token uintptr, data, size *uintptr) int {
	*data, *size = 0, 0
	in := instances.find(token, flb.ThreadID())
	if in == nil {
		return input.FLB_OK
	}
	guard("callback", in, func() {
		if b := in.take(); len(b) > 0 {
			// Pinned until cleanup, so that C may hold the address.
			*data, *size = uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))
		}
	})
	return input.FLB_OK
}

// cleanup says that the core has copied what the last callback of this instance gave it.
func cleanup(token uintptr) int {
	if in := instances.find(token, flb.ThreadID()); in != nil {
		guard("cleanup", in, in.release)
	}
	return input.FLB_OK
}

func pause() {
	instances.paused(flb.ThreadID())
	each("pause", (*instance).pause)
}

func resume() {
	if instances.resumed(flb.ThreadID()) {
		each("resume", (*instance).resume)
	}
}

// leave tells every engine that the core empties no ring any more: the first instance exits, and the others wait for
// that.
func leave() {
	for _, in := range instances.all() {
		in.engine.Leave()
	}
}

func exit() {
	leave()
	if in := instances.remove(flb.ThreadID()); in != nil {
		guard("exit", in, in.close)
	}
}

// each calls f for every instance of this thread: the calls without a context. It is one but for `threaded off`.
func each(what string, f func(*instance)) {
	for _, in := range instances.of(flb.ThreadID()) {
		guard(what, in, func() { f(in) })
	}
}

// guard calls f and turns a panic into a log line: one that leaves an exported function ends Fluent Bit. It is a net,
// not a plan: after SIGHUP the core's own signal handlers stand, and a nil dereference aborts even so.
func guard(what string, in *instance, f func()) {
	defer func() {
		if p := recover(); p != nil {
			complain(what, in, p)
		}
	}()
	f()
}
