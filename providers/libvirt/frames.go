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

	typeReply      = 1
	typeStream     = 3
	statusContinue = 2
)

// frames passes on what a daemon sends over a connection for streams as the
// client expects it: the reply to a call before the data that follow, which a
// daemon with much to do sends the other way round, and nothing of a stream that
// has ended. The client would take data for the reply and the reply for the end,
// and it holds the lock of all its calls while it hands a frame to the one that
// waits for it: one more than that takes would stop them all.
type frames struct {
	net.Conn
	// ready is what is to be passed on, and left what follows of the frame that
	// has begun.
	ready []byte
	left  int64
	// answered and over are the calls that were replied to, and whose stream
	// has ended; early is what came before its reply, whole frames.
	answered, over map[uint32]bool
	early          map[uint32][]byte
}

var _ net.Conn = (*frames)(nil)

func newFrames(conn net.Conn) *frames {
	return &frames{Conn: conn, answered: map[uint32]bool{}, over: map[uint32]bool{}, early: map[uint32][]byte{}}
}

// Read is called by one reader alone.
func (f *frames) Read(b []byte) (int, error) {
	for len(f.ready) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.ready) > 0 {
		n := copy(b, f.ready)
		f.ready = f.ready[n:]
		return n, nil
	}
	n, err := f.Conn.Read(b[:min(int64(len(b)), f.left)])
	f.left -= int64(n)
	return n, err
}

// next reads a header, and passes the frame on unless it came too early or too
// late.
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
	switch binary.BigEndian.Uint32(head[frameType:]) {
	case typeReply:
		return f.reply(head, serial, body)
	case typeStream:
		return f.stream(head, serial, body)
	}
	f.ready, f.left = head[:], body
	return nil
}

// reply passes a reply on, and behind it what came before it.
func (f *frames) reply(head [frameHeader]byte, serial uint32, body int64) error {
	whole, err := f.whole(head, body)
	if err != nil {
		return err
	}
	f.ready = append(whole, f.early[serial]...)
	f.answered[serial] = true
	delete(f.early, serial)
	return nil
}

func (f *frames) stream(head [frameHeader]byte, serial uint32, body int64) error {
	if f.over[serial] {
		_, err := io.CopyN(io.Discard, f.Conn, body)
		return err
	}
	// The last frame that its call takes is without data, or says how it went.
	f.over[serial] = binary.BigEndian.Uint32(head[frameStatus:]) != statusContinue || body == 0
	if f.answered[serial] {
		f.ready, f.left = head[:], body
		return nil
	}
	if int64(len(f.early[serial]))+body > maxFrameBytes {
		return fmt.Errorf("the daemon sent %d bytes of a stream before it said that there is one", len(f.early[serial]))
	}
	whole, err := f.whole(head, body)
	f.early[serial] = append(f.early[serial], whole...)
	return err
}

func (f *frames) whole(head [frameHeader]byte, body int64) ([]byte, error) {
	b := append(head[:], make([]byte, body)...)
	_, err := io.ReadFull(f.Conn, b[frameHeader:])
	return b, err
}
