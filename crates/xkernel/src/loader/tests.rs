use super::{BASE_ALIGN, BASE_MAX, DEFAULT_ARENA, NEAR_LEN, NEAR_SPAN, TABLE, choose_base};

#[test]
fn what_each_process_touches_lies_in_one_table_and_all_of_it_in_the_range() {
    let draws = (0..5000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).chain([0, u64::MAX]);
    for base in draws.map(|draw| choose_base(DEFAULT_ARENA, &draw.to_be_bytes()).unwrap()) {
        assert_eq!(base / TABLE, (base + NEAR_SPAN - 1) / TABLE, "{base:#x}");
        let far = (base + NEAR_SPAN).next_multiple_of(TABLE);
        assert!(base.is_multiple_of(BASE_ALIGN) && far + (DEFAULT_ARENA - NEAR_LEN) <= BASE_MAX, "{base:#x}");
    }
}

#[test]
fn an_arena_of_an_odd_size_is_refused() {
    for len in [0, NEAR_LEN, DEFAULT_ARENA + 1, BASE_MAX] {
        assert!(choose_base(len, &[1; 8]).is_err(), "{len:#x}");
    }
}
