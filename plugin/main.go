// Package main is the shared object in_defender.so: the functions that Fluent Bit calls. Each one recovers, finds its
// instance and calls it (boundary.go); what an instance does stands in instance.go, how it is found in table.go. The
// functions that the core calls also in a child it forked pass through forked.c first; here they are called
// defender...
//
// Tokens and data cross the boundary as integers, not as pointers: a token is no address, and the Go runtime ends the
// process when it meets such a value in a pointer.
package main

/*
#include <stddef.h>
#include <stdint.h>
*/
import "C"

import (
	"os"
	"runtime/debug"
	"unsafe"

	"github.com/fluent/fluent-bit-go/input"
)

const (
	kind        = "defender"
	description = "Microsoft Defender alerts"
)

// FLBPluginPreRegister is called once per load, on the main thread. A hot reload calls it while the old instances
// still run, so it touches nothing that is shared, as do Register and Unregister.
//
//export FLBPluginPreRegister
func FLBPluginPreRegister(hotReload C.int) C.int { return input.FLB_OK }

// FLBPluginRegister fills the plugin definition. Its event_type and config_map stay untouched: older cores have no room
// for them.
//
//export FLBPluginRegister
func FLBPluginRegister(def unsafe.Pointer) C.int {
	result := -1
	guard("register", nil, func() { result = input.FLBPluginRegister(def, kind, description) })
	return C.int(result)
}

// defenderInit starts an instance on its own thread. Anything but FLB_OK ends the start of Fluent Bit, from 4.0.3 on.
//
//export defenderInit
func defenderInit(plugin unsafe.Pointer) C.int {
	started := false
	guard("init", nil, func() { started = open(plugin) })
	if !started {
		return input.FLB_ERROR
	}
	return input.FLB_OK
}

//export FLBPluginInputPreRun
func FLBPluginInputPreRun(hotReload C.int) C.int {
	each("pre-run", (*instance).flush)
	return input.FLB_OK
}

// FLBPluginInputCallbackCtx is what cores from 4.1 on call, once a second.
//
//export FLBPluginInputCallbackCtx
func FLBPluginInputCallbackCtx(ctx C.uintptr_t, data *C.uintptr_t, size *C.size_t) C.int {
	return C.int(callback(uintptr(ctx), (*uintptr)(unsafe.Pointer(data)), (*uintptr)(unsafe.Pointer(size))))
}

// FLBPluginInputCallback is what cores before 4.1 call.
//
//export FLBPluginInputCallback
func FLBPluginInputCallback(data *C.uintptr_t, size *C.size_t) C.int {
	return C.int(callback(0, (*uintptr)(unsafe.Pointer(data)), (*uintptr)(unsafe.Pointer(size))))
}

// FLBPluginInputCleanupCallbackCtx says that the core has copied the data of the last callback.
//
//export FLBPluginInputCleanupCallbackCtx
func FLBPluginInputCleanupCallbackCtx(ctx C.uintptr_t, data C.uintptr_t) C.int {
	return C.int(cleanup(uintptr(ctx)))
}

//export FLBPluginInputCleanupCallback
func FLBPluginInputCleanupCallback(data C.uintptr_t) C.int {
	return C.int(cleanup(0))
}

// defenderPause is called on the thread of the instance that is over its limit, and twice or more at exit.
//
//export defenderPause
func defenderPause() { pause() }

//export FLBPluginInputResume
func FLBPluginInputResume() { resume() }

//export defenderPreExit
func defenderPreExit(byHotReload C.int) {
	leave()
	each("pre-exit", (*instance).flush)
}

// defenderExit ends one instance of this thread, the last initialised first. With `threaded off` the core calls it
// even for a stanza that was never initialised: then there may be none left.
//
//export defenderExit
func defenderExit() C.int {
	exit()
	return input.FLB_OK
}

//export defenderUnregister
func defenderUnregister(def unsafe.Pointer) {
	guard("unregister", nil, func() {
		input.FLBPluginUnregister(def)
		refused.stop()
	})
}

// The heap is small and mostly bytes without pointers, so collecting it more often costs next to nothing, and keeps
// the memory of the node it shares: without this, twice what lives is resident. Whoever sets GOGC has the last word.
func init() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(12)
	}
}

func main() {}
