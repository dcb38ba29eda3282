package stratum

import "strings"

// Device is what is known of the miners with one kind of user agent.
type Device struct {
	Agent string // how the user agent begins, in lower case; "" fits everybody
	Class string // for people: "asic", "hobby", "lottery", "cpu", "rental", "proxy"
	// Start is the first difficulty and Floor the least one; zero leaves that to
	// the port. Neither is ever harder than a block.
	Start, Floor float64
	// Extranonce2 is the size of the extranonce2 that the device needs, in
	// bytes; zero is the usual 8.
	Extranonce2 int
}

// The difficulties that start a class: one share in five seconds at the named rate.
const (
	startFarm    = 65536     // 56 TH/s, between an old and a new ASIC
	startHobby   = 512       // 440 GH/s, one desk miner
	startCPU     = 1. / 256  // 3.4 MH/s, one core or two
	startLottery = 1. / 8192 // 105 kH/s, an ESP32
)

// devices is searched from the top. Sources: the agents as these programs send
// them (ESP-Miner stratum_api.c, NerdMiner_v2 stratum.cpp, bmminer-mix config.h,
// cgminer and ckpool configure.ac) and as other pools' tables have them
// (datum_gateway src/datum_stratum.c, Spiral-Pool spiralrouter.go). A floor of 1
// keeps an ASIC that is still tuning from flooding the port
// (benjamin-wilson/public-pool#120). A name that is shared by USB sticks and
// warehouses gets a floor, but no start.
var devices = []Device{
	{"nicehash/", "rental", 524288, 524288, 0},       // the site refuses less (datum_gateway)
	{"miningrigrentals", "rental", startFarm, 1, 0},  // warns below half of what it suggests
	{"mrr", "rental", startFarm, 1, 0},               //
	{"ckpool/", "proxy", 1024, 0, 0},                 // any number of any devices
	{"ckproxy/", "proxy", 1024, 0, 0},                //
	{"braiins-farm-proxy", "proxy", startFarm, 1, 0}, // ASICs only
	{"farm-proxy", "proxy", startFarm, 1, 0},         //
	{"farmproxy", "proxy", startFarm, 1, 0},          //
	{"bmminer/", "asic", startFarm, 1, 0},            // Antminer, stock
	{"antminer", "asic", startFarm, 1, 0},            //
	{"btminer/", "asic", startFarm, 1, 0},            // Whatsminer, stock
	{"whatsminer/", "asic", startFarm, 1, 0},         //
	{"bosminer", "asic", startFarm, 1, 0},            // Braiins OS
	{"braiins", "asic", startFarm, 1, 0},             //
	{"vnish", "asic", startFarm, 1, 0},               //
	{"luxos", "asic", startFarm, 1, 0},               //
	{"luxminer", "asic", startFarm, 1, 0},            //
	{"nerdnos", "hobby", 64, 1, 0},                   // one BM1397; before the NerdMiner it is built on
	{"bitaxe", "hobby", startHobby, 1, 0},            // ESP-Miner
	{"nerdqaxe", "hobby", 4 * startHobby, 1, 0},      // its forks with four and eight chips
	{"nerdoctaxe", "hobby", 8 * startHobby, 1, 0},    //
	{"nerdaxe", "hobby", startHobby, 1, 0},           //
	{"jingleminer", "hobby", startHobby, 1, 0},       //
	{"zyber", "hobby", 8 * startHobby, 1, 0},         //
	{"nerdminer", "lottery", startLottery, 0, 0},     //
	{"han_solo", "lottery", startLottery, 0, 0},      //
	{"nmminer", "lottery", startLottery, 0, 0},       //
	{"nminer", "lottery", startLottery, 0, 0},        //
	{"leafminer", "lottery", startLottery, 0, 0},     //
	{"sparkminer", "lottery", startLottery, 0, 0},    //
	{"cpuminer", "cpu", startCPU, 0, 0},              // all three families, by their prefix
	{"cgminer/3.7.2", "asic", 0, 0, 4},               // forks that take extranonce2 to be 4 bytes (proxypool's README)
	{"cgminer/", "asic", 0, 1, 0},                    // Avalon, sticks, and most boxes one never heard of
}

// DeviceOf finds a user agent in own first, then in the built-in table. An
// entry of own for the agent "" therefore replaces that table.
func DeviceOf(agent string, own []Device) (Device, bool) {
	for _, list := range [2][]Device{own, devices} {
		for _, d := range list {
			if len(agent) >= len(d.Agent) && strings.EqualFold(agent[:len(d.Agent)], d.Agent) {
				return d, true
			}
		}
	}
	return Device{}, false
}
