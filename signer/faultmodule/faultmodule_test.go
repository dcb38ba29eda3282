package faultmodule

import "testing"

// TestFunctions: the numbers of the functions the worker lives by, as counted
// in the standard's header.
func TestFunctions(t *testing.T) {
	want := map[int]string{0: "C_Initialize", 12: "C_OpenSession", 18: "C_Login", 26: "C_FindObjectsInit", 42: "C_SignInit", 43: "C_Sign", 67: "C_WaitForSlotEvent"}
	if len(Functions) != 68 {
		t.Fatalf("%d functions, want 68: %v", len(Functions), Functions)
	}
	for i, name := range want {
		if Functions[i] != name {
			t.Errorf("function %d is %s, want %s", i, Functions[i], name)
		}
	}
}
