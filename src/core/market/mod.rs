//! What can be bought: capacity, its offers and prices, and what is known about it.
//!
//! - `capacity`, `offer`, `quote`: what is sold, at what price, and the price's source.
//! - [`catalog`]: what a machine type is. [`shipped`]: the market at the time of this release.
//! - `past_prices`, [`price_changes`]: prices over time.
//! - `cool_down`, [`availability`], [`scores`]: whether capacity is likely to be there.
//! - [`quota`], [`reservation`], [`egress`]: what the account may run, has reserved, and pays for moving data.
//!
//! Does not: choose (see `placement`), or fetch prices (see `aws`).

pub mod availability;
mod capacity;
pub mod catalog;
mod cool_down;
pub mod egress;
mod offer;
mod past_prices;
pub mod price_changes;
pub mod quota;
mod quote;
pub mod reservation;
pub mod reserve;
pub mod scores;
pub mod shipped;

pub use capacity::{Capacity, CapacityType};
pub use cool_down::{CoolDown, CoolDownCause};
pub use offer::{HIGHEST_PRICE, Market, Offer, PriceOrigin, PriceSource};
pub use past_prices::PastPrices;
pub use quote::Quote;
