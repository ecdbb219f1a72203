// Package flb is Fluent Bit's side of the boundary: the context slot, the properties, the thread, the log and the
// metrics of one input instance. It knows nothing of Defender.
package flb

/*
#cgo LDFLAGS: -ldl
#include "flb.h"
*/
import "C"

import (
	"fmt"
	"log/slog"
	"unsafe"

	"github.com/fluent/fluent-bit-go/input"
	"golang.org/x/sys/unix"
)

// Core is what Init learns of its instance. It is valid from Init to Exit; all calls but those of Log belong on the
// instance's thread.
type Core struct {
	api     *C.struct_core_api
	ins     unsafe.Pointer
	context *C.char
	name    string
	thread  int
	log     *Log
}

// Attach copies what Init's argument points to, because the next Init overwrites it. kind is the plugin's name;
// index stands in for the number in the instance's name on a core that does not tell it.
func Attach(plugin unsafe.Pointer, kind string, index int) *Core {
	p := (*C.struct_core_plugin)(plugin)
	c := &Core{api: p.api, ins: p.ins, context: p.context, thread: ThreadID(), name: fmt.Sprintf("%s.%d", kind, index)}
	if name := C.core_input_name(p.ins); name != nil {
		c.name = C.GoString(name)
	}
	level := levelOf(int(C.core_level(c.api, p.ins)))
	prefix := fmt.Sprintf("[input:%s:%s] ", kind, c.name)
	if C.core_can_print(c.api) == 0 {
		c.log = newLog(prefix, level, c.thread, nil)
	} else {
		c.log = newLog(prefix, level, c.thread, c.print)
	}
	return c
}

// Name is the instance's: its alias, else the plugin's name and a number, as in defender.0.
func (c *Core) Name() string { return c.name }

// Thread is the OS thread that Init ran on. Every later call of this instance runs on it.
func (c *Core) Thread() int { return c.thread }

// Log is the instance's way into Fluent Bit's log.
func (c *Core) Log() *Log { return c.log }

// Property reads the value of a key in the stanza, "" where there is none. It takes Init's argument and may be called
// during Init only.
func Property(plugin unsafe.Pointer, key string) string { return input.FLBPluginConfigKey(plugin, key) }

// SetToken has the core hand token to each callback. False: the core is older than 4.1 and has no place for it, or it
// did so before. A token is a number, never a pointer: C code keeps it for as long as it likes.
func (c *Core) SetToken(token uintptr) bool {
	return C.core_set_token(c.context, C.uintptr_t(token)) != 0
}

func (c *Core) print(level slog.Level, text string) {
	s := C.CString(text)
	defer C.free(unsafe.Pointer(s))
	C.core_print(c.api, C.int(number(level)), s)
}

// ThreadID is the id of the OS thread that calls. In a call from C it stays the same until the call returns.
func ThreadID() int { return unix.Gettid() }
