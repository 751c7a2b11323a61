package libvirt

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"testing"
)

// frame is one as a daemon sends it.
func frame(kind, serial, status uint32, body string) []byte {
	b := make([]byte, frameHeader, frameHeader+len(body))
	for i, word := range []uint32{uint32(frameHeader + len(body)), 1, 1, 1, kind, serial, status} {
		binary.BigEndian.PutUint32(b[4*i:], word)
	}
	return append(b, body...)
}

// source is a connection that was sent something.
type source struct {
	net.Conn
	io.Reader
}

func (s source) Read(b []byte) (int, error) { return s.Reader.Read(b) }

func TestFramesAfterAStreamsEndAreLeftOut(t *testing.T) {
	reply := frame(1, 7, 0, "reply")
	data := frame(typeStream, 7, statusContinue, "data")
	end := frame(typeStream, 7, statusContinue, "")
	late := frame(typeStream, 7, 1, "stream had unexpected termination")
	others := append(frame(typeReply, 8, 0, ""), frame(typeStream, 8, statusContinue, "another's")...)
	sent := bytes.Join([][]byte{reply, data, end, late, others, late, reply}, nil)
	want := bytes.Join([][]byte{reply, data, end, others, reply}, nil)
	got, err := io.ReadAll(newFrames(source{Reader: bytes.NewReader(sent)}))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDataThatComeBeforeTheReplyFollowIt(t *testing.T) {
	reply := frame(typeReply, 7, 0, "")
	data := frame(typeStream, 7, statusContinue, "data")
	end := frame(typeStream, 7, statusContinue, "")
	want := bytes.Join([][]byte{reply, data, end}, nil)
	for _, order := range [][][]byte{{reply, data, end}, {data, reply, end}, {data, end, reply}, {data, end, end, reply, end}} {
		got, err := io.ReadAll(newFrames(source{Reader: bytes.NewReader(bytes.Join(order, nil))}))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q became %q, %v", order, got, err)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame(1, 7, 0, "reply"))
	f.Add(append(frame(typeStream, 7, 0, ""), frame(typeStream, 7, 1, "late")...))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, sent []byte) {
		got, _ := io.ReadAll(newFrames(source{Reader: bytes.NewReader(sent)}))
		if len(got) > len(sent) {
			t.Errorf("%d bytes became %d", len(sent), len(got))
		}
	})
}
