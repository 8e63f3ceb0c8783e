// gopacket over a capture file: connections and bytes reassembled, as one line of JSON.
//
// Written for speed as gopacket's documentation recommends: pcapgo without a copy per packet,
// a DecodingLayerParser over preallocated layers, one Assembler, pages reused by the package.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/reassembly"
)

const readAhead = 1 << 20

// counter is the stream of every connection: it keeps nothing but totals.
type counter struct {
	connections, bytes uint64
}

func (c *counter) New(_, _ gopacket.Flow, tcp *layers.TCP, _ reassembly.AssemblerContext) reassembly.Stream {
	if tcp.SYN {
		c.connections++
	}
	return c
}

func (c *counter) Accept(*layers.TCP, gopacket.CaptureInfo, reassembly.TCPFlowDirection,
	reassembly.Sequence, *bool, reassembly.AssemblerContext) bool {
	return true
}

func (c *counter) ReassembledSG(sg reassembly.ScatterGather, _ reassembly.AssemblerContext) {
	available, _ := sg.Lengths()
	c.bytes += uint64(available)
}

// ReassemblyComplete lets the pool forget the connection at once.
func (c *counter) ReassemblyComplete(reassembly.AssemblerContext) bool {
	return true
}

// moment is the context of the packet in hand; one is enough, since no packet is kept.
type moment struct {
	info gopacket.CaptureInfo
}

func (m *moment) GetCaptureInfo() gopacket.CaptureInfo {
	return m.info
}

// decoder holds the layers that every packet is decoded into.
type decoder struct {
	ethernet layers.Ethernet
	ip       layers.IPv4
	tcp      layers.TCP
	payload  gopacket.Payload
	found    []gopacket.LayerType
	parser   *gopacket.DecodingLayerParser
}

func newDecoder() *decoder {
	d := &decoder{}
	d.parser = gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet)
	d.parser.SetDecodingLayerContainer(gopacket.DecodingLayerArray(nil))
	d.parser.IgnoreUnsupported = true // above TCP: gopacket guesses a protocol from the port
	for _, layer := range []gopacket.DecodingLayer{&d.ethernet, &d.ip, &d.tcp, &d.payload} {
		d.parser.AddDecodingLayer(layer)
	}
	return d
}

// tcpIn says whether data holds TCP, and leaves it decoded.
func (d *decoder) tcpIn(data []byte) bool {
	if err := d.parser.DecodeLayers(data, &d.found); err != nil {
		return false
	}
	return len(d.found) > 2 && d.found[2] == layers.LayerTypeTCP
}

func assemble(reader *pcapgo.Reader, total *counter) error {
	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(total))
	decoded, now := newDecoder(), &moment{}
	for {
		data, info, err := reader.ZeroCopyReadPacketData()
		if err == io.EOF {
			assembler.FlushAll()
			return nil
		}
		if err != nil {
			return err
		}
		if decoded.tcpIn(data) {
			now.info = info
			assembler.AssembleWithContext(decoded.ip.NetworkFlow(), &decoded.tcp, now)
		}
	}
}

func main() {
	file, err := os.Open(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	reader, err := pcapgo.NewReader(bufio.NewReaderSize(file, readAhead))
	if err != nil {
		log.Fatal(err)
	}
	total := &counter{}
	if err := assemble(reader, total); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("{\"connections\": %d, \"bytes\": %d}\n", total.connections, total.bytes)
}
