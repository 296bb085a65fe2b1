//! A small assembler for classic BPF with forward labels.

/// `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip where a condition holds.
    pub jump_true: u8,
    /// Instructions to skip where it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

impl Instruction {
    /// As the kernel's `struct sock_filter` lies in memory.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_le_bytes();
        let [e, f, g, h] = self.operand.to_le_bytes();
        [a, b, self.jump_true, self.jump_false, e, f, g, h]
    }

    /// The inverse of [`Instruction::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [a, b, jump_true, jump_false, e, f, g, h] = bytes;
        Self { code: u16::from_le_bytes([a, b]), jump_true, jump_false, operand: u32::from_le_bytes([e, f, g, h]) }
    }
}

/// Operation codes that the filter uses.
pub(super) mod code {
    pub(in super::super) const LOAD: u16 = 0x20;
    pub(in super::super) const AND: u16 = 0x54;
    pub(in super::super) const JUMP: u16 = 0x05;
    pub(in super::super) const IF_EQUAL: u16 = 0x15;
    pub(in super::super) const IF_ABOVE: u16 = 0x25;
    pub(in super::super) const IF_AT_LEAST: u16 = 0x35;
    pub(in super::super) const IF_ANY: u16 = 0x45;
    pub(in super::super) const RETURN: u16 = 0x06;
}

/// A place to jump to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Label(usize);

/// Which field of a jump awaits its distance.
#[derive(Clone, Copy, Debug)]
enum Field {
    True,
    False,
    Operand,
}

/// Collects instructions and patches jumps when done.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<Instruction>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Field, Label)>,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    pub(super) fn place(&mut self, label: Label) {
        let here = self.code.len();
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(here);
        }
    }

    pub(super) fn load(&mut self, offset: u32) {
        self.emit(code::LOAD, offset);
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.emit(code::AND, mask);
    }

    pub(super) fn answer(&mut self, action: u32) {
        self.emit(code::RETURN, action);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.branch(code::JUMP, 0, Field::Operand, to);
    }

    pub(super) fn jump_if_equal(&mut self, value: u32, to: Label) {
        self.branch(code::IF_EQUAL, value, Field::True, to);
    }

    pub(super) fn jump_unless_equal(&mut self, value: u32, to: Label) {
        self.branch(code::IF_EQUAL, value, Field::False, to);
    }

    pub(super) fn jump_if_at_least(&mut self, value: u32, to: Label) {
        self.branch(code::IF_AT_LEAST, value, Field::True, to);
    }

    pub(super) fn jump_unless_at_least(&mut self, value: u32, to: Label) {
        self.branch(code::IF_AT_LEAST, value, Field::False, to);
    }

    pub(super) fn jump_unless_above(&mut self, value: u32, to: Label) {
        self.branch(code::IF_ABOVE, value, Field::False, to);
    }

    pub(super) fn jump_if_any(&mut self, mask: u32, to: Label) {
        self.branch(code::IF_ANY, mask, Field::True, to);
    }

    /// The program; `None` where a label was not placed or lies backwards or too far.
    pub(super) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, field, label) in self.jumps {
            let place = self.places.get(label.0).copied().flatten()?;
            let distance = place.checked_sub(at + 1)?;
            let instruction = self.code.get_mut(at)?;
            match field {
                Field::True => instruction.jump_true = u8::try_from(distance).ok()?,
                Field::False => instruction.jump_false = u8::try_from(distance).ok()?,
                Field::Operand => instruction.operand = u32::try_from(distance).ok()?,
            }
        }
        Some(self.code)
    }

    fn branch(&mut self, code: u16, operand: u32, field: Field, to: Label) {
        self.jumps.push((self.code.len(), field, to));
        self.emit(code, operand);
    }

    fn emit(&mut self, code: u16, operand: u32) {
        self.code.push(Instruction { code, jump_true: 0, jump_false: 0, operand });
    }
}
