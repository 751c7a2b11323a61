package libvirt

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The frame of libvirt's protocol: its length and six more words.
const (
	frameHeader   = 28
	maxFrameBytes = 32 << 20
	frameType     = 16
	frameSerial   = 20
	frameStatus   = 24

	typeStream     = 3
	statusContinue = 2
)

// frames passes on what a daemon sends, but for frames of a stream that has
// ended. The client holds the lock of all its calls while it hands a frame to
// the call that waits for it: one more than that takes would stop them all.
type frames struct {
	net.Conn
	// left is what of the frame that is passed on is still to be read, and head
	// what of its header was not passed on yet.
	left int64
	head []byte
	over map[uint32]struct{}
}

var _ net.Conn = (*frames)(nil)

func newFrames(conn net.Conn) *frames { return &frames{Conn: conn, over: map[uint32]struct{}{}} }

// Read is called by one reader alone.
func (f *frames) Read(b []byte) (int, error) {
	for len(f.head) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.head) > 0 {
		n := copy(b, f.head)
		f.head = f.head[n:]
		return n, nil
	}
	n, err := f.Conn.Read(b[:min(int64(len(b)), f.left)])
	f.left -= int64(n)
	return n, err
}

// next reads a header, and skips the frame where its stream is over.
func (f *frames) next() error {
	var head [frameHeader]byte
	if _, err := io.ReadFull(f.Conn, head[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length < frameHeader || length > maxFrameBytes {
		return fmt.Errorf("the daemon sent a frame of %d bytes", length)
	}
	body := int64(length) - frameHeader
	serial := binary.BigEndian.Uint32(head[frameSerial:])
	if _, over := f.over[serial]; over && binary.BigEndian.Uint32(head[frameType:]) == typeStream {
		_, err := io.CopyN(io.Discard, f.Conn, body)
		return err
	}
	if f.ends(head, body) {
		f.over[serial] = struct{}{}
	}
	f.head, f.left = head[:], body
	return nil
}

// ends reports whether a frame is the last that its stream's call takes: one
// without data, or one that says how it went.
func (f *frames) ends(head [frameHeader]byte, body int64) bool {
	status := binary.BigEndian.Uint32(head[frameStatus:])
	return binary.BigEndian.Uint32(head[frameType:]) == typeStream && (status != statusContinue || body == 0)
}
