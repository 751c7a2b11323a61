package blobs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A packed file is zstd's seekable format: frames that are compressed each by
// itself, then a skippable frame with the lengths of all. Any zstd unpacks it.
const (
	frameBytes     = 1 << 20
	skippableMagic = 0x184D2A5E
	seekableMagic  = 0x8F92EAB1
	footerBytes    = 9
	entryBytes     = 8
	// maxFrames bounds the table: 1 TiB of content.
	maxFrames = 1 << 20
)

// worth says whether so much saved is worth the unpacking.
func worth(plain, packed int64) bool { return packed < plain-plain/8 }

var encoders = sync.Pool{New: func() any {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameBytes), zstd.WithLowerEncoderMem(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return e
}}

var decoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(frameBytes), zstd.WithDecoderLowmem(true))
	if err != nil {
		panic(err) // as above
	}
	return d
}}

// errNotWorth says that compression saves too little.
var errNotWorth = errors.New("compression does not pay")

// pack compresses a content of n bytes. The error is errNotWorth where its
// first frame, or the whole, does not shrink enough.
func pack(w io.Writer, r io.Reader, n int64) (written int64, err error) {
	encoder := encoders.Get().(*zstd.Encoder)
	defer encoders.Put(encoder)
	out := bufio.NewWriterSize(w, 64<<10)
	var table []byte
	plain, packed := make([]byte, min(frameBytes, n)), []byte(nil)
	for {
		got, err := io.ReadFull(r, plain)
		if got > 0 {
			packed = encoder.EncodeAll(plain[:got], packed[:0])
			if table == nil && !worth(int64(got), int64(len(packed))) {
				return 0, errNotWorth
			}
			table = binary.LittleEndian.AppendUint32(table, uint32(len(packed)))
			table = binary.LittleEndian.AppendUint32(table, uint32(got))
			written += int64(len(packed))
			if _, err := out.Write(packed); err != nil {
				return 0, err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	end := seekTable(table)
	written += int64(len(end))
	if !worth(n, written) {
		return 0, errNotWorth
	}
	if _, err := out.Write(end); err != nil {
		return 0, err
	}
	return written, out.Flush()
}

func seekTable(entries []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)+footerBytes))
	b = append(b, entries...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)/entryBytes))
	b = append(b, 0)
	return binary.LittleEndian.AppendUint32(b, seekableMagic)
}

// frame is where one lies: in the file, and of the content.
type frame struct{ at, packed, start, plain int64 }

// unpacker reads the content of a packed file from anywhere.
type unpacker struct {
	file   io.ReaderAt
	frames []frame
	size   int64
	offset int64
	// current is the frame whose content is in plain; -1 for none.
	current       int
	packed, plain []byte
}

var _ io.ReadSeeker = (*unpacker)(nil)

var errPacked = errors.New("the packed file is damaged")

// unpack reads the table of a packed file of n bytes.
func unpack(file io.ReaderAt, n int64) (*unpacker, error) {
	var footer [footerBytes]byte
	if n < footerBytes+8 {
		return nil, errPacked
	}
	if _, err := file.ReadAt(footer[:], n-footerBytes); err != nil {
		return nil, err
	}
	count := int64(binary.LittleEndian.Uint32(footer[:]))
	length := count*entryBytes + footerBytes
	if binary.LittleEndian.Uint32(footer[5:]) != seekableMagic || footer[4] != 0 || count > maxFrames || length+8 > n {
		return nil, errPacked
	}
	table := make([]byte, length+8)
	if _, err := file.ReadAt(table, n-length-8); err != nil {
		return nil, err
	}
	if !bytes.Equal(table, seekTable(table[8:8+count*entryBytes])) {
		return nil, errPacked
	}
	u := &unpacker{file: file, current: -1}
	at := int64(0)
	for entry := range count {
		e := table[8+entry*entryBytes:]
		f := frame{at: at, packed: int64(binary.LittleEndian.Uint32(e)), start: u.size, plain: int64(binary.LittleEndian.Uint32(e[4:]))}
		if f.plain > frameBytes || f.plain == 0 || f.packed > 2*frameBytes {
			return nil, errPacked
		}
		u.frames = append(u.frames, f)
		at, u.size = at+f.packed, u.size+f.plain
	}
	if at != n-length-8 {
		return nil, errPacked
	}
	return u, nil
}

func (u *unpacker) Read(p []byte) (int, error) {
	if u.offset >= u.size {
		return 0, io.EOF
	}
	i := sort.Search(len(u.frames), func(i int) bool { return u.frames[i].start > u.offset }) - 1
	if err := u.load(i); err != nil {
		return 0, err
	}
	n := copy(p, u.plain[u.offset-u.frames[i].start:])
	u.offset += int64(n)
	return n, nil
}

func (u *unpacker) load(i int) (err error) {
	if i == u.current {
		return nil
	}
	f := u.frames[i]
	if int64(cap(u.packed)) < f.packed {
		u.packed = make([]byte, f.packed)
	}
	u.packed, u.current = u.packed[:f.packed], -1
	if _, err := u.file.ReadAt(u.packed, f.at); err != nil {
		return fmt.Errorf("%w: %w", errPacked, err)
	}
	decoder := decoders.Get().(*zstd.Decoder)
	defer decoders.Put(decoder)
	if u.plain, err = decoder.DecodeAll(u.packed, u.plain[:0]); err != nil {
		return fmt.Errorf("%w: %w", errPacked, err)
	}
	if int64(len(u.plain)) != f.plain {
		return errPacked
	}
	u.current = i
	return nil
}

func (u *unpacker) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += u.offset
	case io.SeekEnd:
		offset += u.size
	}
	if offset < 0 {
		return 0, errors.New("seeking before the beginning")
	}
	u.offset = offset
	return offset, nil
}
