package main

import (
	"encoding/binary"
	"os"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/canon"
)

// volumeHeader is the header of a data disk as an attacker reads and writes it,
// of package seal's form: magic, length, canonical CBOR, SHA-256 of these.
type volumeHeader struct {
	Version        uint64        `cbor:"1,keyasint"`
	Volume         [16]byte      `cbor:"2,keyasint"`
	Claim          attest.Digest `cbor:"3,keyasint"`
	Sealed         sealedKey     `cbor:"4,keyasint"`
	Authorizations []byte        `cbor:"5,keyasint"`
	Recovery       []byte        `cbor:"6,keyasint"`
	Sequence       uint64        `cbor:"7,keyasint"`
}

// sealedKey is TPM2B_PUBLIC, TPM2B_PRIVATE, TPMS_CREATION_DATA and
// TPMT_TK_CREATION.
type sealedKey struct {
	Public   []byte `cbor:"1,keyasint"`
	Private  []byte `cbor:"2,keyasint"`
	Creation []byte `cbor:"3,keyasint"`
	Ticket   []byte `cbor:"4,keyasint"`
}

const (
	volumeHeaderBytes = 4 << 10
	volumeMagic       = "SHEDVOL1"
)

func (o *owned) readHeader() (h volumeHeader) {
	disk, err := os.Open(o.volume.Disk)
	o.must(err)
	defer disk.Close()
	b := make([]byte, volumeHeaderBytes)
	_, err = disk.ReadAt(b, 0)
	o.must(err)
	body := b[len(volumeMagic)+4:]
	body = body[:binary.BigEndian.Uint32(b[len(volumeMagic):])]
	o.must(canon.Unmarshal("header", body, volumeHeaderBytes, &h))
	return h
}

func (o *owned) writeHeader(h volumeHeader) {
	body, err := canon.Marshal(h)
	o.must(err)
	b := append(binary.BigEndian.AppendUint32([]byte(volumeMagic), uint32(len(body))), body...)
	sum := attest.Sum(b)
	b = append(b, sum[:]...)
	disk, err := os.OpenFile(o.volume.Disk, os.O_RDWR, 0)
	o.must(err)
	defer disk.Close()
	_, err = disk.WriteAt(append(b, make([]byte, volumeHeaderBytes-len(b))...), 0)
	o.must(err)
}
