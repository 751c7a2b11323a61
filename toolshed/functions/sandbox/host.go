package sandbox

import (
	"context"

	"github.com/tetratelabs/wazero/api"
)

// HostModule is the name of the module that a program imports the host's
// functions from.
//
//	call(pointer, length i32) i32   sends a request, answers the length of its answer
//	answer(pointer, length i32) i32 copies the last answer, says how many bytes
//
// Either answers -1 where the pointer and the length are not in the memory;
// call also where the request is too long.
const HostModule = "shed"

// MaxRequestBytes bounds a request to the host.
const MaxRequestBytes = 1 << 20

// Host answers the requests of a program.
type Host interface {
	// Answer never fails: what goes wrong is in its answer.
	Answer(ctx context.Context, request []byte) []byte
	// Exhausted is the answer to one call too many.
	Exhausted() []byte
}

// exchange is what a call has said to the host.
type exchange struct {
	host       Host
	left, made int64
	answer     []byte
}

const outside = ^uint64(0) >> 32 // -1, as i32

func hostCall(ctx context.Context, m api.Module, stack []uint64) {
	r, ok := ctx.Value(runningKey{}).(*running)
	length := uint32(stack[1])
	if !ok || r.host.host == nil || length > MaxRequestBytes {
		stack[0] = outside
		return
	}
	request, ok := m.Memory().Read(uint32(stack[0]), length)
	if !ok {
		stack[0] = outside
		return
	}
	e := &r.host
	if e.left <= 0 {
		e.answer = e.host.Exhausted()
	} else {
		e.left--
		e.made++
		// A copy: the memory is the module's, and may move.
		e.answer = e.host.Answer(ctx, append([]byte(nil), request...))
	}
	stack[0] = uint64(len(e.answer))
}

func hostAnswer(ctx context.Context, m api.Module, stack []uint64) {
	r, ok := ctx.Value(runningKey{}).(*running)
	if !ok {
		stack[0] = outside
		return
	}
	b := r.host.answer[:min(len(r.host.answer), int(uint32(stack[1])))]
	if !m.Memory().Write(uint32(stack[0]), b) {
		stack[0] = outside
		return
	}
	stack[0] = uint64(len(b))
}
